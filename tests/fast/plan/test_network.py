"""What `--listen`, `--join` and `--key-file` come to, and how mistakes in them are told."""

from __future__ import annotations

import base64
import os
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from actors.errors import ConfigurationError, UnreachableError
from actors.plan import network
from actors.plan.network import Network, fresh_key, network_of, read_keys
from actors.plan.settings import Settings


@pytest.fixture
def key_file(tmp_path: Path) -> Path:
    path = tmp_path / "callboard.key"
    path.touch(0o600)
    path.write_text(fresh_key() + "\n")
    return path


def resolved(key_file: Path | None = None, **settings: Any) -> Network | None:
    return network_of(Settings(key_file=str(key_file or ""), **settings))


# ── keys ───────────────────────────────────────────────────────────────────────


def test_every_key_is_another() -> None:
    assert len({fresh_key() for _ in range(100)}) == 100


def test_keys_are_lines_in_base64_or_hexadecimal(key_file: Path) -> None:
    first, second, third = (os.urandom(size) for size in (32, 48, 64))
    lines = [base64.b64encode(first).decode(), "", "# the next one", second.hex(), third.hex()]
    key_file.write_text("\n".join(lines))
    assert read_keys(str(key_file)) == (first, second, third)


@pytest.mark.parametrize(
    ("text", "cause"),
    [
        ("", "holds no key"),
        ("# none\n\n", "holds no key"),
        ("s3cret, of words", "line 1: neither base64 nor hexadecimal"),
        (f"{fresh_key()}\n{'ab' * 31}", "line 2: 31 bytes; a key has at least 32"),
        ("abc", "line 1: neither base64 nor hexadecimal"),
    ],
)
def test_what_is_no_key_is_told_by_its_line_and_not_quoted(
    key_file: Path, text: str, cause: str
) -> None:
    key_file.write_text(text)
    with pytest.raises(ConfigurationError) as raised:
        read_keys(str(key_file))
    assert f"--key-file {key_file}: {cause}" in str(raised.value)
    assert "s3cret" not in str(raised.value)


@pytest.mark.parametrize("mode", [0o644, 0o660, 0o604, 0o640 | 0o010])
def test_a_key_that_others_may_read_is_refused(key_file: Path, mode: int) -> None:
    key_file.chmod(mode)
    with pytest.raises(ConfigurationError, match=f"others may read it .mode {mode:04o}.: chmod"):
        read_keys(str(key_file))


@pytest.mark.parametrize(
    ("mode", "owner", "accepted"),
    [
        (0o600, "me", True),
        (0o400, "me", True),
        (0o440, "me", False),
        (0o440, "root", True),
        (0o400, "root", True),
        (0o444, "root", False),
        (0o460, "root", False),
        (0o400, "another", False),
    ],
)
def test_a_secret_that_is_mounted_for_our_group_is_roots(
    monkeypatch: pytest.MonkeyPatch, mode: int, owner: str, accepted: bool
) -> None:
    monkeypatch.setattr(os, "getuid", lambda: 1000)
    found: Any = SimpleNamespace(
        st_mode=0o100000 | mode, st_uid={"me": 1000, "root": 0, "another": 1001}[owner]
    )
    if accepted:
        network._check_mode("k", found)
    else:
        with pytest.raises(ConfigurationError, match="--key-file k: "):
            network._check_mode("k", found)


def test_a_key_file_that_cannot_be_read(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match=r"--key-file .*/none: No such file or directory"):
        read_keys(str(tmp_path / "none"))
    with pytest.raises(ConfigurationError, match="Is a directory"):
        read_keys(str(tmp_path))


# ── addresses ──────────────────────────────────────────────────────────────────


def test_a_system_that_nobody_joins_has_no_network(key_file: Path) -> None:
    assert resolved() is None
    assert resolved(key_file) is None


def test_listening_is_at_an_address_of_this_host(key_file: Path) -> None:
    found = resolved(key_file, listen="localhost:7000")
    assert found is not None
    assert (found.host, found.port, found.leaders) == ("127.0.0.1", 7000, ())
    assert len(found.keys[0]) == 32
    assert found.key_file == str(key_file)


def test_who_joins_has_the_address_from_which_the_leader_is_reached(key_file: Path) -> None:
    found = resolved(key_file, join=("nowhere.invalid:1", "127.0.0.2:7000"))
    assert found is not None
    assert (found.host, found.port) == ("127.0.0.1", 0)
    assert found.leaders == ("nowhere.invalid:1", "127.0.0.2:7000")


def test_who_joins_may_be_told_its_address(key_file: Path) -> None:
    found = resolved(key_file, listen="127.0.0.3:0", join=("127.0.0.2:7000",))
    assert found is not None
    assert (found.host, found.port, found.leaders) == ("127.0.0.3", 0, ("127.0.0.2:7000",))


@pytest.mark.parametrize("settings", [{"listen": "127.0.0.1:7000"}, {"join": ("127.0.0.1:7000",)}])
def test_without_a_key_nobody_is_met(settings: dict[str, Any]) -> None:
    with pytest.raises(ConfigurationError, match=r"with a key only: .*`callboard key`.*--key-file"):
        resolved(**settings)


@pytest.mark.parametrize(
    ("listen", "cause"),
    [
        ("192.0.2.1:7000", "192.0.2.1 is not an IPv4 address of this host"),
        ("[::1]:7000", r"\[::1\] is not an IPv4 address of this host"),
        ("nowhere.invalid:7000", "nowhere.invalid is not an IPv4 address of this host"),
        ("0.0.0.0:7000", "name the address at which others reach this host"),
    ],
)
def test_an_address_at_which_nobody_could_reach_us(key_file: Path, listen: str, cause: str) -> None:
    with pytest.raises(ConfigurationError, match=f"^--listen .*: {cause}$"):
        resolved(key_file, listen=listen)


def test_a_leader_to_whom_no_way_leads(key_file: Path) -> None:
    with pytest.raises(UnreachableError, match=r"^--join nowhere\.invalid:1: "):
        resolved(key_file, join=("nowhere.invalid:1",))


@pytest.mark.parametrize(
    ("settings", "line"),
    [
        ({"listen": "7000"}, "setting listen: must be HOST:PORT, not '7000'"),
        ({"join": ("a:1", "b")}, "setting join: must be HOST:PORT, not 'b'"),
        ({"listen": "a:1", "admin_port": 2}, "--admin-port: with --listen its port is that of .*"),
    ],
)
def test_what_is_no_address_is_told(settings: dict[str, Any], line: str) -> None:
    with pytest.raises(ConfigurationError, match=f"^{line}$"):
        Settings(**settings)


def test_a_network_does_not_show_its_keys() -> None:
    assert "keys" not in repr(network.Network("127.0.0.1", keys=(b"s3cret",)))
