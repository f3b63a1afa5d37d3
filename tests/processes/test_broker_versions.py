"""`.ci/broker`: brings the versions of RabbitMQ that the distribution does not have."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

from tests.support.broker import Broker

CI = Path(__file__).parents[2] / ".ci"
MIRROR = "http://mirror.example/debian"

#: Names a mirror, and fetches nothing from it.
APT = f"""#!/bin/sh
case "$*" in
    *--print-uris*) echo "'{MIRROR}/dists/bookworm/InRelease' name 0" ;;
    *) echo "E: Failed to fetch {MIRROR}/dists/forky/InRelease" >&2; exit 100 ;;
esac
"""


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty cache, on a machine whose mirror has no other suite."""
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin/apt-get").write_text(APT)
    (tmp_path / "bin/apt-get").chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path / 'bin'}:{os.environ['PATH']}")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.delenv("CI", raising=False)
    return tmp_path / "cache/callboard/brokers"


def bring(*versions: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [CI / "broker", *versions], cwd=CI.parent, capture_output=True, text=True, timeout=60
    )


def test_a_version_that_cannot_be_had_is_said_and_leaves_nothing_behind(cache: Path) -> None:
    done = bring("4.0", "4.3")
    assert done.returncode == 0
    for version, suite in (("4.0", "trixie"), ("4.3", "forky")):
        assert f"bringing RabbitMQ {version} from Debian {suite}\n" in done.stderr
        assert f"the tests on RabbitMQ {version} are skipped\n" in done.stderr
    assert "no mirror that apt is configured for has rabbitmq-server" in done.stderr
    assert "mirror.example" not in done.stderr
    assert not list(cache.iterdir())


def test_it_fails_in_ci(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CI", "1")
    assert bring("4.3").returncode == 1


def test_a_folder_that_holds_another_version_is_named(cache: Path) -> None:
    server = cache / "rabbitmq-4.3/usr/lib/rabbitmq/lib/rabbitmq_server-4.4.1/sbin/rabbitmq-server"
    server.parent.mkdir(parents=True)
    server.touch(0o755)
    assert f"remove {cache / 'rabbitmq-4.3'}\n" in bring("4.3").stderr
    with pytest.raises(FileNotFoundError, match=r"\.ci/broker 4\.3 brings it"):
        Broker(version="4.3")
