"""Where settings come from, what beats what, and what a mistake gets."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from actors.cli import invoke
from actors.plan.network import fresh_key

APP = """
from actors import App, Options

app = App()

@app.route(["words"], options={Options.BULK_SIZE: 16})
def index(messages):
    pass
"""


@pytest.fixture(autouse=True)
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A directory with an app in it, and an environment that says nothing else."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [*sys.path])
    monkeypatch.delitem(sys.modules, "settings_app", raising=False)  # another test's
    monkeypatch.setenv("CALLBOARD_STATE_DIR", str(tmp_path / "state"))
    for variable in ("CALLBOARD_CONNECTION", "CALLBOARD_CONNECTION_FILE", "CALLBOARD_CONFIG"):
        monkeypatch.delenv(variable, raising=False)
    (tmp_path / "settings_app.py").write_text(APP)
    return tmp_path


def check(*arguments: str) -> int:
    return invoke(["check", "settings_app:app", *arguments])


def prefetch_shown(capsys: pytest.CaptureFixture[str]) -> str:
    return capsys.readouterr().out.splitlines()[-1].split()[-3]


def test_a_flag_beats_a_variable_which_beats_the_file_which_beats_the_default(
    place: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert check() == 0
    assert prefetch_shown(capsys) == "128"
    (place / "callboard.toml").write_text("prefetch = 200")
    assert check("--config", "callboard.toml") == 0
    assert prefetch_shown(capsys) == "200"
    monkeypatch.setenv("CALLBOARD_PREFETCH", "300")
    assert check("--config", "callboard.toml") == 0
    assert prefetch_shown(capsys) == "300"
    assert check("--config", "callboard.toml", "--prefetch", "400") == 0
    assert prefetch_shown(capsys) == "400"


def test_an_empty_variable_says_nothing(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("CALLBOARD_PREFETCH", "")
    assert check() == 0
    assert prefetch_shown(capsys) == "128"


def test_a_secret_may_lie_in_a_file_and_is_never_shown(
    place: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (place / "secret").write_text("amqp://me:canary@host/\n")
    monkeypatch.setenv("CALLBOARD_CONNECTION_FILE", str(place / "secret"))
    assert check() == 0
    told = capsys.readouterr()
    assert "amqp://me@host:5672/" in told.out
    assert "canary" not in told.out + told.err


def test_the_variable_of_connections_is_split_at_spaces(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("CALLBOARD_CONNECTION", "a=spool: b=spool:///b.db")
    assert check() == 78
    assert "several connections could serve it" in capsys.readouterr().err


MISTAKES = {
    "an unknown key": ("prefech = 1", "unknown key 'prefech'; valid: admin-port, app-dir,"),
    "a value of the wrong kind": ('prefetch = "many"', "--config callboard.toml: prefetch: 'many'"),
    "a fraction": ("prefetch = 1.5", "--config callboard.toml: prefetch: '1.5'"),
    "a table": ("[name]\na = 1", "name: one value is expected"),
    "no TOML": ("prefetch", "is not TOML"),
}


@pytest.mark.parametrize(("text", "told"), MISTAKES.values(), ids=MISTAKES)
def test_a_file_with_a_mistake_is_refused_in_one_line(
    place: Path, capsys: pytest.CaptureFixture[str], text: str, told: str
) -> None:
    (place / "callboard.toml").write_text(text)
    assert check("--config", "callboard.toml") == 78
    error = capsys.readouterr().err
    assert error.startswith("callboard: --config")
    assert told in error
    assert error.count("\n") == 1


def test_a_file_that_is_not_there_is_named(capsys: pytest.CaptureFixture[str]) -> None:
    assert check("--config", "none.toml") == 78
    assert capsys.readouterr().err == "callboard: --config none.toml: No such file or directory\n"


def test_a_file_of_the_connection_that_is_empty_is_named(
    place: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (place / "secret").write_text("\n")
    monkeypatch.setenv("CALLBOARD_CONNECTION_FILE", "secret")
    assert check() == 78
    assert capsys.readouterr().err == "callboard: CALLBOARD_CONNECTION_FILE: secret: is empty\n"


def test_a_variable_with_a_mistake_is_named(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("CALLBOARD_PREFETCH", "many")
    assert check() == 78
    assert capsys.readouterr().err.startswith("callboard: CALLBOARD_PREFETCH: 'many'")


def test_a_flag_with_a_mistake_is_a_matter_of_usage(capsys: pytest.CaptureFixture[str]) -> None:
    assert check("--prefetch", "many") == 2
    assert "--prefetch" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("flag", "value", "told"),
    [
        ("--prefetch", "many", "'many' is not a valid whole number"),
        ("--shutdown-timeout", "soon", "'soon' is not a valid number"),
        ("--shutdown-timeout", "inf", "'inf' is not a valid number"),
    ],
)
def test_what_is_no_number_is_told_in_plain_words(
    capsys: pytest.CaptureFixture[str], flag: str, value: str, told: str
) -> None:
    assert check(flag, value) == 2
    assert told in capsys.readouterr().err


def test_no_connection_anywhere_stops_run_and_only_warns_in_check(
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert invoke(["run", "settings_app:app"]) == 78
    assert "no connection is named: use --connection URL" in capsys.readouterr().err
    assert check() == 0
    assert "no connection is named" in capsys.readouterr().err


def test_an_app_that_does_not_resolve_is_a_configuration_error(
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert invoke(["run", "nowhere:app", "--connection", "spool:"]) == 78
    assert capsys.readouterr().err.startswith("callboard: app 'nowhere:app'")


def test_every_flag_of_run_shows_its_variable(capsys: pytest.CaptureFixture[str]) -> None:
    assert invoke(["run", "--help"]) == 0
    words = capsys.readouterr().out.split()
    flags = {word.rstrip(",") for word in words if word.startswith("--")} - {"--help"}
    for flag in flags:
        variable = f"CALLBOARD_{flag.removeprefix('--').replace('-', '_').upper()}"
        assert any(word.startswith(variable) for word in words), variable


def test_check_shows_the_pool_of_each_route_and_its_processes(
    place: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    shares = ", Options.POOL: 'small'"
    more = APP.replace("16}", f"16{shares}, Options.CONCURRENCY: 3}}").replace("words", "more")
    other = "\n".join(more.splitlines()[5:])
    (place / "settings_app.py").write_text(APP.replace("16}", f"16{shares}}}") + other)
    assert check("--connection", "spool:") == 0
    heads, *rows = [line.split() for line in capsys.readouterr().out.splitlines()[-3:]]
    assert heads[-1] == "pool"
    assert [(row[0], row[5], row[-1]) for row in rows] == [
        ("words", "3", "small"),
        ("more", "3", "small"),
    ]


@pytest.fixture
def key_file(place: Path) -> Path:
    path = place / "key"
    path.write_text(fresh_key())
    path.chmod(0o600)
    return path


NETWORK = {
    "no key file": (("--listen", "127.0.0.1:7000"), "--listen 127.0.0.1:7000: other hosts are met"),
    "no such key file": (("--join", "127.0.0.1:7", "--key-file", "none"), "--key-file /"),
    "a strange address": (
        ("--listen", "203.0.113.1:7", "--key-file", "key"),
        "--listen 203.0.113.1:7: 203.0.113.1 is not an IPv4 address of this host",
    ),
    "no port": (("--join", "first", "--key-file", "key"), "setting join: must be HOST:PORT"),
    "half an offer": (("--offer", "gpu="), "setting offer: "),
}


@pytest.mark.parametrize(("flags", "told"), NETWORK.values(), ids=NETWORK)
def test_check_says_what_run_would_of_several_hosts(
    key_file: Path, capsys: pytest.CaptureFixture[str], flags: tuple[str, ...], told: str
) -> None:
    assert check("--connection", "spool:", *flags) == 78
    checked = capsys.readouterr().err
    assert checked.startswith(f"callboard: {told}")
    assert checked.count("\n") == 1
    assert invoke(["run", "settings_app:app", "--connection", "spool:", *flags]) == 78
    assert checked in capsys.readouterr().err


def test_check_finds_no_way_to_a_host_that_has_no_address(
    key_file: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert check("--join", "nowhere.invalid:1", "--key-file", "key") == 69
    assert capsys.readouterr().err.startswith("callboard: --join nowhere.invalid:1: ")


def test_a_host_that_joins_needs_no_connection_and_is_shown(
    key_file: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    joins = ("--join", "127.0.0.1:7", "--join", "127.0.0.1:8", "--key-file", "key")
    assert check(*joins, "--host-name", "two", "--offer", "gpu=2") == 0
    told = capsys.readouterr()
    assert "host two joins 127.0.0.1:7 or 127.0.0.1:8 and offers gpu" in told.out
    assert told.err == ""


def test_what_the_first_host_decides_is_ignored_on_others_with_a_warning(
    key_file: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("CALLBOARD_CONNECTION", "amqp://me:canary@host/")
    monkeypatch.setenv("CALLBOARD_PREFETCH", "10")
    flags = ("--route", "words", "--burst", "--no-wait", "--max-bytes", "1", "--placement", "local")
    assert check("--join", "127.0.0.1:7", "--key-file", "key", *flags) == 0
    assert capsys.readouterr().err == (
        "callboard: warning: with --join these are the first host's to say, and ignored here:"
        " --connection, --route, --prefetch, --burst, --no-wait, --max-bytes, --placement\n"
    )


@pytest.mark.parametrize("verb", ["check", "run"])
@pytest.mark.parametrize(
    ("annotation", "told"),
    [
        ("list[Message[Plain]]", "route words: pydantic cannot validate Plain: "),
        ("'list[Message[Nowhere]]'", "route words: handler index is annotated with list[Message["),
        ("list[int]", "write list[Message[int]], not list[int]"),
        ("int", "handler index takes a list of messages, not int: write list[Message[int]]"),
    ],
)
def test_an_annotation_that_cannot_be_kept_ends_check_and_run_with_78(
    verb: str, annotation: str, told: str, place: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    head = APP.replace("import App", "import App, Message").replace(
        "app = App()", "app = App()\nclass Plain: ..."
    )
    (place / "settings_app.py").write_text(head.replace("messages", f"messages: {annotation}"))
    assert invoke([verb, "settings_app:app", "--connection", "spool:"]) == 78
    error = capsys.readouterr().err
    assert told in error
    assert error.count("\n") == 1
