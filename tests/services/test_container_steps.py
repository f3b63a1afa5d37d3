"""What the Dockerfile does, step by step, where no container can be had."""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import venv
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from tests.services.test_run_health import get
from tests.services.worker import BrokerPlace, until, until_is
from tests.support.broker import free_port

ROOT = Path(__file__).parents[2]
SOURCES = ("pyproject.toml", "requirements.txt", "README.md", "LICENSE", "actors")
NOBODY = 65534


@pytest.fixture(scope="module")
def image() -> Iterator[Path]:
    """`/opt/venv`, `/app` and a `/home` that nobody may write to, with the wheel installed."""
    image = Path(tempfile.mkdtemp(prefix="callboard-image-"))
    source = image / "src"
    source.mkdir()
    for name in SOURCES:
        copy = shutil.copytree if (ROOT / name).is_dir() else shutil.copy
        copy(ROOT / name, source / name)
    pip = [sys.executable, "-m", "pip", "--quiet", "--disable-pip-version-check"]
    subprocess.run(
        [*pip, "wheel", "--no-deps", "--wheel-dir", image / "wheels", source],
        check=True,
        timeout=120,
    )
    venv.create(image / "venv", with_pip=False)
    (site,) = (image / "venv/lib").glob("python*/site-packages")
    (wheel,) = (image / "wheels").iterdir()
    subprocess.run(
        [*pip, f"--python={image / 'venv'}", "install", "--no-deps", "--no-index", wheel],
        check=True,
        timeout=120,
    )
    # The dependencies of the interpreter that runs the tests: they were installed already.
    (site / "dependencies.pth").write_text(str(Path(pytest.__file__).parents[1]))
    bytecode = shutil.ignore_patterns("__pycache__")  # .dockerignore leaves it out, too
    shutil.copytree(ROOT / "deploy/app", image / "app", ignore=bytecode)
    (image / "home").mkdir(mode=0o555)
    (image / "tmp").mkdir(mode=0o777)
    (image / "tmp").chmod(0o1777)
    image.chmod(0o755)
    yield image
    shutil.rmtree(image)


def test_the_wheel_holds_the_framework_alone(image: Path) -> None:
    (wheel,) = (image / "wheels").iterdir()
    listed = subprocess.check_output([sys.executable, "-m", "zipfile", "-l", wheel], text=True)
    roots = {line.split("/")[0] for line in listed.splitlines()[1:]}
    assert len(roots) == 2, roots
    assert "actors" in roots
    assert "actors/py.typed" in listed


def runs_as_nobody(python: Path) -> bool:
    try:
        return not subprocess.run([python, "-c", ""], user=NOBODY, group=NOBODY).returncode
    except PermissionError:
        return False


def test_the_command_of_the_image_runs_as_nobody_and_ends_clean(
    image: Path, rabbitmq: BrokerPlace
) -> None:
    """Exec form, no home to write to, a secret in a file, probes, SIGTERM, exit code 0."""
    secret = image / "connection"
    secret.write_text(rabbitmq.url)
    secret.chmod(0o444)
    port = free_port()
    environment = {
        "PATH": f"{image / 'venv/bin'}:/usr/bin:/bin",
        "HOME": str(image / "home"),
        "PYTHONDONTWRITEBYTECODE": "1",
        "CALLBOARD_RUNTIME_DIR": str(image / "tmp/callboard"),
        "CALLBOARD_STATE_DIR": str(image / "tmp/state"),
        "CALLBOARD_HEALTH": f"127.0.0.1:{port}",
        "CALLBOARD_CONNECTION_FILE": str(secret),
    }
    words = re.findall(r'^CMD \["(.*)"\]$', (ROOT / "deploy/Dockerfile").read_text(), re.MULTILINE)
    command = ["callboard", *words[0].split('", "')]
    as_root = os.getuid() == 0
    if as_root and not runs_as_nobody(image / "venv/bin/python"):
        pytest.skip("this interpreter lies where another user may not enter")
    with (image / "tmp/log").open("wb") as log:
        worker = subprocess.Popen(
            command,
            executable=image / "venv/bin/callboard",
            cwd=image / "app",
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            user=NOBODY if as_root else None,
            group=NOBODY if as_root else None,
            extra_groups=[] if as_root else None,
            start_new_session=True,
        )
    try:
        until_is((200, "ok\n"), lambda: get(port, "/readyz"))
        assert Path(f"/proc/{worker.pid}").stat().st_uid == (NOBODY if as_root else os.getuid())
        with rabbitmq.admin() as admin:
            admin.publish("orders", b'{"id": 1}', b'{"id": 2}')
        until(lambda: "orders_stored_total 2.0" in get(port, "/metrics")[1])
        worker.send_signal(signal.SIGTERM)
        assert worker.wait(20) == 0, (image / "tmp/log").read_text()
        assert rabbitmq.ready("orders") == 0
    finally:
        with suppress(ProcessLookupError):
            os.killpg(worker.pid, signal.SIGKILL)
        rabbitmq.delete("orders")
    assert list((image / "home").iterdir()) == []
    assert not list((image / "app").rglob("*.pyc"))
