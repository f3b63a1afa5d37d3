"""The verbs that need no running system, as a user calls them, on a real spool."""

from __future__ import annotations

import io
import json
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from actors.cli import invoke
from actors.connectors.spool.admin import SpoolAdmin
from actors.connectors.spool.file import SpoolFile
from actors.connectors.spool.schema import DEAD
from actors.publisher import Publisher

ROOT = Path(__file__).parents[2]


@pytest.fixture
def url(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    monkeypatch.setenv("CALLBOARD_CONNECTION", f"spool://{tmp_path}/spool.db")
    monkeypatch.setenv("CALLBOARD_RUNTIME_DIR", str(tmp_path / "run"))
    return f"spool://{tmp_path}/spool.db"


def spool_at(url: str) -> SpoolFile:
    return SpoolFile(Path(url.removeprefix("spool://")))


def bodies(url: str, queue: str) -> list[bytes]:
    return [message.body for message in SpoolAdmin(spool_at(url)).show(queue)]


def put_from(tmp_path: Path, text: bytes, *flags: str) -> int:
    (tmp_path / "lines").write_bytes(text)
    return invoke(["publish", "words", str(tmp_path / "lines"), *flags])


def bury(url: str, *names: str, error: str = "builtins.ValueError") -> None:
    """As a worker does it."""
    spool = spool_at(url)
    with spool.transaction() as at:
        for name in names:
            (seq,) = at.execute("SELECT coalesce(max(seq), 0) + 1 FROM message").fetchone()
            at.execute(
                "INSERT INTO message (seq, queue, state, priority, attempts, died, reason, error,"
                " route) VALUES (?, 'words', ?, 0, 3, 1.0, 'no good', ?, 'words')",
                (seq, DEAD, error),
            )
            at.execute("INSERT INTO content VALUES (?, ?, x'', 0.0, ?)", (seq, name, name.encode()))
    spool.close()


# ── publish ────────────────────────────────────────────────────────────────────


def test_one_line_is_one_message_and_blank_lines_are_none(
    tmp_path: Path, url: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert put_from(tmp_path, b'{"id": 1}\n\n"b"\r\n3') == 0
    assert bodies(url, "words") == [b'{"id": 1}', b'"b"', b"3"]
    assert capsys.readouterr().out.startswith("3 messages put into words in ")


def test_text_becomes_json_and_raw_stays_as_it_is(tmp_path: Path, url: str) -> None:
    assert put_from(tmp_path, 'é "x"\n'.encode(), "--text") == 0
    assert put_from(tmp_path, b"\xff{\n", "--raw") == 0
    assert [json.loads(bodies(url, "words")[0]), bodies(url, "words")[1]] == ['é "x"', b"\xff{"]


def test_a_line_that_is_no_json_is_named_and_what_came_before_is_kept(
    tmp_path: Path, url: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert put_from(tmp_path, b"1\n2\n{oops\n4\n") == 1
    assert bodies(url, "words") == [b"1", b"2"]
    error = capsys.readouterr().err
    assert error.startswith("callboard: line 3 cannot be sent: ")
    assert error.endswith("; 2 messages confirmed before\n")


def test_a_byte_order_mark_is_the_files_and_of_no_message(tmp_path: Path, url: str) -> None:
    for flags in ([], ["--text"]):
        assert put_from(tmp_path, b'\xef\xbb\xbf"a"\n1\n', *flags) == 0
    assert bodies(url, "words") == [b'"a"', b"1", b'"\\"a\\""', b'"1"']
    assert put_from(tmp_path, b"\xef\xbb\xbfa\n", "--raw") == 0
    assert bodies(url, "words")[-1] == b"\xef\xbb\xbfa"


@pytest.mark.parametrize("encoding", ["utf-16", "utf-16-le", "utf-16-be", "utf-32", "utf-32-be"])
@pytest.mark.parametrize("flags", [[], ["--text"]], ids=["json", "text"])
def test_a_file_of_another_encoding_is_refused_and_nothing_of_it_is_put(
    tmp_path: Path, url: str, encoding: str, flags: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert put_from(tmp_path, '"ä"\n"b"\n'.encode(encoding), *flags) == 1
    marked = encoding in ("utf-16", "utf-32")
    told = "the file is UTF-16 or UTF-32" if marked else "line 1 cannot be sent: "
    assert told in capsys.readouterr().err
    assert bodies(url, "words") == []


@pytest.mark.parametrize("line", [b'"\\ud800"', b"1" * 5000, b"[" * 5000, b"\xff", b"'a'"])
def test_what_no_handler_could_decode_is_not_published(
    tmp_path: Path, url: str, line: bytes, capsys: pytest.CaptureFixture[str]
) -> None:
    assert put_from(tmp_path, line) == 1
    assert capsys.readouterr().err.startswith("callboard: line 1 cannot be sent: ")
    assert bodies(url, "words") == []


def test_many_lines_arrive_in_order_whatever_the_reads_cut(tmp_path: Path, url: str) -> None:
    lines = [json.dumps("x" * (n % 700)) for n in range(3000)]
    assert put_from(tmp_path, "\n".join(lines).encode()) == 0
    found = [message.body for message in SpoolAdmin(spool_at(url)).show("words", 5000)]
    assert found == [line.encode() for line in lines]


def test_a_slow_writer_is_not_waited_for(tmp_path: Path, url: str) -> None:
    process = subprocess.Popen(
        [sys.executable, "-m", "actors", "publish", "words"],
        cwd=ROOT,
        env={**os.environ, "CALLBOARD_CONNECTION": url},
        stdin=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
    )
    assert process.stdin is not None
    with process:
        process.stdin.write(b"1\n")
        process.stdin.flush()
        deadline = time.monotonic() + 20
        while bodies(url, "words") != [b"1"]:
            assert time.monotonic() < deadline
            time.sleep(0.05)
        process.stdin.close()
    assert process.returncode == 0


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["publish", ""], "a queue is named by 1 to 255 bytes"),
        (["publish", "é" * 128], "a queue is named by 1 to 255 bytes"),
        (["publish", "a\nb"], "a queue is named by one line, not 'a\\nb'"),
        (["publish", "\udce9"], "a queue is named by whole characters, not '\\udce9'"),
        (["dead", "list", "a\rb"], "a queue is named by one line"),
        (["dead", "redrive", "words", "--to", "a\nb"], "a queue is named by one line"),
        (["spool", "show", "a\nb"], "a queue is named by one line"),
        (["spool", "purge", "a\r\nb", "--yes"], "a queue is named by one line"),
        (["publish", "words", "--delay", "inf"], "inf is not in the range"),
        (["dead", "redrive", "words", "--to", ""], "a queue is named by 1 to 255 bytes"),
    ],
)
def test_what_no_queue_takes_is_a_matter_of_usage(
    url: str, capsys: pytest.CaptureFixture[str], arguments: list[str], told: str
) -> None:
    assert invoke(arguments) == 2
    assert told in capsys.readouterr().err


# ── dead ───────────────────────────────────────────────────────────────────────


def test_dead_letters_are_listed_shown_and_counted(
    url: str, capsys: pytest.CaptureFixture[str]
) -> None:
    bury(url, "a", "b")
    assert invoke(["dead", "list", "words"]) == 0
    heads, first, _ = capsys.readouterr().out.splitlines()
    assert heads.split() == ["id", "died", "attempts", "error", "reason"]
    assert first.split()[0] == "a"
    assert invoke(["dead", "show", "words", "--id", "b", "--json"]) == 0
    letter = json.loads(capsys.readouterr().out)
    assert letter == {
        "id": "b", "queue": "words", "died": "1970-01-01T00:00:01+00:00", "attempts": 3,
        "error": "builtins.ValueError", "reason": "no good", "route": "words",
        "headers": {}, "body": "b",
    }  # fmt: skip


def test_that_there_are_no_dead_letters_is_said(
    url: str, capsys: pytest.CaptureFixture[str]
) -> None:
    bury(url, "a")
    for verb in ("list", "show"):
        assert invoke(["dead", verb, "others"]) == 0
        assert capsys.readouterr().out == "no dead letters of others\n"


def test_a_redrive_puts_back_what_was_chosen_and_a_dry_run_nothing(
    url: str, capsys: pytest.CaptureFixture[str]
) -> None:
    bury(url, "a", "b")
    assert invoke(["dead", "redrive", "words", "--id", "b", "--dry-run"]) == 0
    assert capsys.readouterr().out == "1 dead letter would be put into words\n"
    assert bodies(url, "words") == []
    assert invoke(["dead", "redrive", "words", "--id", "b", "--to", "other"]) == 0
    assert capsys.readouterr().out == "1 dead letter put into other\n"
    assert bodies(url, "other") == [b"b"]


def test_a_purge_asks_first_and_deletes_nothing_where_nobody_answers(
    url: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    bury(url, "a")
    monkeypatch.setattr("sys.stdin", io.StringIO())
    assert invoke(["dead", "purge", "words"]) == 2
    assert "say --yes" in capsys.readouterr().err
    assert len(SpoolAdmin(spool_at(url)).dead("words")) == 1
    assert invoke(["dead", "purge", "words", "--yes"]) == 0
    assert SpoolAdmin(spool_at(url)).dead("words") == []
    assert capsys.readouterr().out.endswith("1 dead letter deleted\n")


def test_a_time_that_is_none_is_a_matter_of_usage(
    url: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert invoke(["dead", "list", "words", "--before", "noon"]) == 2
    assert "'noon' is no time like 2030-01-31T12:00:00" in capsys.readouterr().err


HOSTILE = "\x1b[2J\x1b]0;owned\x07\x9b31m\x7f\u202e\u200b\u2028\nforged"
HOSTILE_NAME = HOSTILE.replace("\n", "")  # no queue is put into by a name of two lines


def bury_hostile(url: str) -> None:
    """A dead letter and a message of somebody who is after the terminal of the operator."""
    with Publisher(url) as publisher:
        publisher.put("words", HOSTILE, headers={HOSTILE: HOSTILE}, message_id=f"id{HOSTILE}")
        publisher.put(f"queue{HOSTILE_NAME}", serialized_data=HOSTILE.encode())
        publisher.put("other", 1)
        publisher.put("dead", 1, message_id=f"dead{HOSTILE}", headers={HOSTILE: HOSTILE})
    with (spool := spool_at(url)).transaction() as at:
        at.execute(
            "UPDATE message SET state = ?, died = 1e300, reason = ?, error = ?, route = ?"
            " WHERE queue = 'dead'",
            (DEAD, HOSTILE, HOSTILE, HOSTILE),
        )
        at.execute("UPDATE message SET queue = ? WHERE queue = 'other'", (HOSTILE,))
    spool.close()


@pytest.mark.parametrize(
    "arguments",
    [
        ["spool", "list"],
        ["spool", "list", "--json"],
        ["spool", "show", "words"],
        ["spool", "show", f"queue{HOSTILE_NAME}"],
        ["spool", "purge", f"queue{HOSTILE_NAME}", "--yes"],
        ["dead", "list", "dead"],
        ["dead", "list", "dead", "--json"],
        ["dead", "show", "dead"],
        ["dead", "show", "dead", "--json"],
        ["dead", "list", f"queue{HOSTILE_NAME}"],
        ["dead", "redrive", "dead", "--to", f"to{HOSTILE_NAME}"],
        ["dead", "redrive", "dead", "--json"],
        ["dead", "purge", "dead", "--yes"],
        ["dead", "purge", "dead", "--yes", "--json"],
    ],
    ids=lambda arguments: " ".join(arguments).partition("\x1b")[0],
)
def test_what_strangers_wrote_commands_no_terminal(
    url: str, capsys: pytest.CaptureFixture[str], arguments: list[str]
) -> None:
    bury_hostile(url)
    assert invoke(arguments) == 0
    printed = capsys.readouterr()
    lines = (printed.out + printed.err).split("\n")
    assert all(line.isprintable() and not line.startswith("forged") for line in lines)
    if "--json" in arguments:
        assert all(json.loads(line) for line in lines if line)


@pytest.mark.parametrize(
    ("column", "value"),
    [
        ("died", 1e300),
        ("died", -1e18),
        ("attempts", 2**62),
        ("reason", b"\xff\xfe"),
        ("error", b"\xff"),
        ("headers", b"{"),
        ("headers", b"[" * 5000),
        ("headers", b"[1]"),
        ("headers", b'{"a": NaN, "b": 1e999}'),
        ("headers", b"\xff"),
        ("enqueued", 1e300),
        ("body", b"\xff" * 1000),
    ],
)
def test_a_dead_letter_of_a_spool_is_shown_and_given_back_whatever_stands_in_it(
    url: str, capsys: pytest.CaptureFixture[str], column: str, value: object
) -> None:
    bury(url, "before", "odd", "after")
    content = column in ("headers", "enqueued", "body")
    text = isinstance(value, bytes) and not content
    with (spool := spool_at(url)).transaction() as at:
        at.execute(
            f"UPDATE {'content' if content else 'message'} SET {column} ="
            f" {'CAST(:value AS TEXT)' if text else ':value'}"
            " WHERE seq = (SELECT seq FROM content WHERE id = 'odd')",
            {"value": value},
        )
    spool.close()
    for verb in (["list"], ["list", "--json"], ["show"], ["show", "--json"]):
        assert invoke(["dead", *verb, "words"]) == 0
    assert invoke(["spool", "list"]) == 0
    assert invoke(["dead", "redrive", "words"]) == 0
    assert capsys.readouterr().out.endswith("3 dead letters put into words\n")
    assert invoke(["spool", "show", "words"]) == 0


# ── spool, status ──────────────────────────────────────────────────────────────


def test_the_queues_of_a_spool_are_listed_and_purged(
    tmp_path: Path, url: str, capsys: pytest.CaptureFixture[str]
) -> None:
    put_from(tmp_path, b"1\n2\n")
    capsys.readouterr()
    assert invoke(["spool", "list", "--json"]) == 0
    counts = json.loads(capsys.readouterr().out)
    assert (counts["queue"], counts["ready"], counts["dead"]) == ("words", 2, 0)
    assert invoke(["spool", "show", "words", "--limit", "1"]) == 0
    assert capsys.readouterr().out.split()[1:] == ["ready", "1"]
    assert invoke(["spool", "purge", "words", "--yes"]) == 0
    assert capsys.readouterr().out == "2 messages deleted from words\n"


@pytest.mark.parametrize("verb", [["spool", "list"], ["spool", "show", "a"], ["dead", "list", "a"]])
def test_who_looks_into_a_spool_makes_none(
    url: str, tmp_path: Path, capsys: pytest.CaptureFixture[str], verb: list[str]
) -> None:
    assert invoke(verb) == 78
    assert capsys.readouterr().err.startswith(f"callboard: connection {url}: there is no such file")
    assert list(tmp_path.iterdir()) == []


def test_status_exits_3_where_nothing_runs(url: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert invoke(["status"]) == 3
    assert capsys.readouterr().err == "callboard: nothing runs\n"


def test_the_report_of_a_system_commands_no_terminal(
    url: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    actor = {
        "role": "handler", "name": HOSTILE, "pid": 1, "host": HOSTILE, "route": HOSTILE,
        "state": "waiting", "reason": HOSTILE, "restarts": 0,
    }  # fmt: skip
    counts = dict.fromkeys(
        ("received", "acked", "requeued", "retried", "rejected", "dead", "in_flight"), 0
    )
    report = {
        "app": HOSTILE, "version": HOSTILE, "name": HOSTILE, "state": "starting", "ready": False,
        "since": "", "actors": [actor], "totals": counts,
        "routes": [{"name": HOSTILE, "oldest_s": 0.0, "last_error": HOSTILE, **counts}],
    }  # fmt: skip
    monkeypatch.setattr("actors.ops.system.status", lambda *_, **__: report)
    for flags in ([], ["--ready"], ["--json"]):
        assert invoke(["status", *flags]) == 1
        lines = capsys.readouterr().out.split("\n")
        assert all(line.isprintable() and not line.startswith("forged") for line in lines)


def test_a_reader_that_leaves_early_gets_no_traceback(url: str) -> None:
    bury(url, *(f"{number:06}" for number in range(5000)))
    read, write = os.pipe()
    os.close(read)
    done = subprocess.run(
        [sys.executable, "-m", "actors", "dead", "show", "words"],
        cwd=ROOT,
        stdout=write,
        stderr=subprocess.PIPE,
        timeout=30,
    )
    os.close(write)
    assert (done.returncode, done.stderr) == (1, b"")


def test_an_error_of_ours_is_one_line_without_secrets(
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert invoke(["dead", "list", "words", "--connection", "amqp://me:canary@host:port/"]) == 78
    error = capsys.readouterr().err
    assert error.startswith("callboard: connection 'amqp://me:***@host:port/'")
    assert error.count("\n") == 1
