"""Log lines: two formats, no secrets, no forged lines, and no waiting."""

from __future__ import annotations

import json
import logging
import logging.config
import os
import pickle
import re
import select
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import ClassVar

import pytest

import actors
from actors import log


@pytest.fixture(autouse=True)
def logging_as_python_ships_it() -> Iterator[None]:
    ours, before = logging.getLogger("actors"), logging.raiseExceptions
    yield
    logging.raiseExceptions = before
    ours.setLevel(logging.NOTSET)
    root = logging.getLogger()
    root.handlers[:] = [each for each in root.handlers if not isinstance(each, log.StderrHandler)]


def configure(level: str = "INFO", format: str = "") -> None:
    """As in a process where nobody has configured logging, pytest included."""
    logging.getLogger().handlers.clear()
    log.configure(level, format)


@pytest.fixture
def pipe(monkeypatch: pytest.MonkeyPatch) -> Iterator[tuple[int, int]]:
    """A pipe that stands for stderr; (read end, write end)."""
    read, write = os.pipe()
    os.set_blocking(read, False)
    monkeypatch.setattr(log, "STDERR", write)
    monkeypatch.setattr(logging, "lastResort", None)
    yield read, write
    for end in (read, write):
        try:
            os.close(end)
        except OSError:
            continue


def lines(read: int) -> list[dict[str, object]]:
    return [json.loads(line) for line in os.read(read, 1 << 20).splitlines()]


def test_a_json_line_has_its_fields_and_the_extra_ones(pipe: tuple[int, int]) -> None:
    configure("INFO", "json")
    logging.getLogger("actors.connection").info("lost %s", "it", extra={"queue": "q", "delay": 2})
    (line,) = lines(pipe[0])
    assert line.pop("ts")
    assert line == {
        "level": "INFO",
        "logger": "actors.connection",
        "msg": "lost it",
        "queue": "q",
        "delay": 2,
    }


def test_a_text_line_ends_with_the_extra_fields(pipe: tuple[int, int]) -> None:
    configure("INFO", "text")
    logging.getLogger("actors.connection").info("connection spool: open", extra={"queue": "q"})
    assert os.read(pipe[0], 4096).decode()[8:] == " INFO connection spool: open queue=q\n"


def test_a_text_line_of_somebody_else_names_the_logger(pipe: tuple[int, int]) -> None:
    configure("INFO", "text")
    logging.getLogger("handlers.mine").info("hello")
    assert os.read(pipe[0], 4096).decode()[8:] == " INFO handlers.mine: hello\n"


def test_what_is_no_terminal_gets_json(pipe: tuple[int, int]) -> None:
    configure()
    logging.getLogger("actors").info("hello")
    assert lines(pipe[0])[0]["msg"] == "hello"


def test_a_user_who_configured_nothing_sees_what_their_own_logger_says(
    pipe: tuple[int, int],
) -> None:
    configure("INFO", "json")
    logging.getLogger("handlers.mine").info("seen")
    logging.getLogger("httpx").info("chatter")
    assert [line["msg"] for line in lines(pipe[0])] == ["seen"]


def test_a_user_who_configured_the_root_logger_gets_every_line_once_and_we_write_none(
    pipe: tuple[int, int],
) -> None:
    seen: list[str] = []

    class Mine(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            seen.append(record.getMessage())

    root = logging.getLogger()
    root.handlers[:] = [Mine()]
    root.setLevel(logging.ERROR)
    log.configure("INFO", "json")
    logging.getLogger("actors.batcher").info("ours")
    logging.getLogger("theirs").info("theirs")
    assert seen == ["ours"]
    assert root.level == logging.ERROR
    with pytest.raises(BlockingIOError):
        os.read(pipe[0], 1)


def test_passwords_in_urls_are_masked_in_messages_extras_and_tracebacks(
    pipe: tuple[int, int],
) -> None:
    configure("INFO", "json")
    try:
        raise OSError("cannot reach amqp://guest:s3/cr@t@host/")
    except OSError:
        logging.getLogger("actors").exception(
            "lost amqp://guest:s3/cr@t@host/", extra={"url": "amqp://guest:s3/cr@t@host/"}
        )
    text = os.read(pipe[0], 1 << 20).decode()
    assert "s3" not in text
    assert text.count("amqp://guest:***@host/") >= 3


def test_a_message_cannot_forge_a_line_or_move_the_cursor(pipe: tuple[int, int]) -> None:
    configure("INFO", "text")
    logging.getLogger("actors").info("a\n12:00:00 INFO forged\x1b[2J\x9b\u2028")
    text = os.read(pipe[0], 4096).decode()
    assert text.endswith("a\\n12:00:00 INFO forged\\x1b[2J\\x9b\\u2028\n")


def test_long_values_are_cut_and_their_length_told(pipe: tuple[int, int]) -> None:
    configure("INFO", "json")
    logging.getLogger("actors").info("x" * 5000, extra={"body": "y" * 5000})
    (line,) = lines(pipe[0])
    assert line["msg"] == "x" * log.MESSAGE + "… (5,000 characters)"
    assert line["body"] == "y" * log.VALUE + "… (5,000 characters)"


def test_arguments_that_do_not_fit_still_give_a_line(pipe: tuple[int, int]) -> None:
    configure("INFO", "json")
    logging.getLogger("actors").info("%d of %d", 1)
    assert lines(pipe[0])[0]["msg"] == "%d of %d (1,)"


def test_a_full_pipe_is_not_waited_for_and_the_loss_is_told_later(pipe: tuple[int, int]) -> None:
    read, write = pipe
    configure("INFO", "json")
    while select.select([], [write], [], 0)[1]:
        os.write(write, b"\n" * 4096)
    for _ in range(3):
        logging.getLogger("actors").info("into the void")
    assert os.read(read, 1 << 20).strip() == b""
    logging.getLogger("actors").info("heard again")
    messages = [line["msg"] for line in lines(read)]
    assert messages == [
        "3 log lines were dropped: stderr did not take them within 0.25 s",
        "heard again",
    ]


def test_a_closed_stderr_stops_nobody(pipe: tuple[int, int]) -> None:
    configure("INFO", "json")
    os.close(pipe[0])
    logging.getLogger("actors").info("nobody reads")
    os.close(pipe[1])
    logging.getLogger("actors").info("nowhere to write")
    (handler,) = logging.getLogger().handlers
    assert isinstance(handler, log.StderrHandler)
    assert handler.lines.dropped == 2


def test_configuring_again_changes_level_and_format_and_doubles_nothing(
    pipe: tuple[int, int],
) -> None:
    configure("DEBUG", "text")
    configure("WARNING", "json")
    logging.getLogger("actors").info("not told")
    logging.getLogger("actors").warning("told")
    assert [line["msg"] for line in lines(pipe[0])] == ["told"]


# ── what the user's configuration may silence ──────────────────────────────────

DEFAULT = {"version": 1}
ROOT = {
    "handlers": {"seen": {"class": "tests.fast.log.test_log.Seen"}},
    "root": {"handlers": ["seen"], "level": "INFO"},
}


class Seen(logging.Handler):
    """A handler of the user's, with a format of their own."""

    lines: ClassVar[list[str]] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.lines.append(self.format(record))


@pytest.fixture(autouse=True)
def nothing_is_seen_yet() -> Iterator[None]:
    Seen.lines.clear()
    yield
    logging.disable(logging.NOTSET)
    root = logging.getLogger()
    root.handlers[:] = [each for each in root.handlers if type(each) is not Seen]


def by_file(folder: Path) -> None:
    file = folder / "logging.ini"
    file.write_text(
        "[loggers]\nkeys=root\n[handlers]\nkeys=seen\n[formatters]\nkeys=\n"
        "[logger_root]\nhandlers=seen\nlevel=INFO\n"
        "[handler_seen]\nclass=tests.fast.log.test_log.Seen\nargs=()\n"
    )
    logging.config.fileConfig(file)


@pytest.mark.parametrize("name", ["actors.handler", "actors.supervisor", "actors.handler.later"])
@pytest.mark.parametrize(
    "configured",
    [
        lambda _: logging.config.dictConfig({**DEFAULT, **ROOT}),
        lambda _: logging.config.dictConfig({**DEFAULT, **ROOT, "disable_existing_loggers": True}),
        lambda _: logging.config.dictConfig({**DEFAULT, **ROOT, "loggers": {"mine": {}}}),
        by_file,
    ],
)
def test_a_configuration_that_does_not_name_our_loggers_does_not_silence_them(
    pipe: tuple[int, int], tmp_path: Path, name: str, configured: Callable[[Path], None]
) -> None:
    configure("INFO", "json")
    for early in ("actors.handler", "actors.supervisor"):
        log.own_logger(early)
    configured(tmp_path)
    log.own_logger(name).error("the handler raised", exc_info=ValueError("boom"))
    (line,) = Seen.lines
    assert "boom" in line
    assert not logging.getLogger(name).disabled


def test_a_configuration_without_any_handler_leaves_us_ours(pipe: tuple[int, int]) -> None:
    configure("INFO", "json")
    logging.config.dictConfig({**DEFAULT, "root": {"handlers": []}})
    log.own_logger("actors.handler").error("heard at amqp://u:s3cret@h/")
    assert [line["msg"] for line in lines(pipe[0])] == ["heard at amqp://u:***@h/"]


def test_who_names_our_loggers_may_silence_them(pipe: tuple[int, int]) -> None:
    configure("INFO", "json")
    levels = {"loggers": {"actors.unheard": {"level": "CRITICAL"}}}
    logging.config.dictConfig({**DEFAULT, **ROOT, **levels})
    log.own_logger("actors.unheard").error("unheard")
    assert Seen.lines == []


def test_what_is_disabled_for_all_is_what_is_no_error(pipe: tuple[int, int]) -> None:
    configure("INFO", "json")
    logging.disable(logging.CRITICAL)
    log.own_logger("actors.handler").warning("unheard")
    log.own_logger("actors.handler").error("heard")
    assert [line["msg"] for line in lines(pipe[0])] == ["heard"]


def test_our_lines_go_to_handlers_of_the_user_without_secrets_and_without_commands() -> None:
    logging.getLogger().addHandler(Seen())
    try:
        raise OSError("no way to amqp://u:s3cret@h/ \x1b[2J")
    except OSError as error:
        log.own_logger("actors.handler").error("lost %s", "amqp://u:s3cret@h/\n", exc_info=error)
    (text,) = Seen.lines
    assert text.startswith("lost amqp://u:***@h/\\n")
    assert text.count("amqp://u:***@h/") == 3  # the source of the line too
    assert "s3cret" not in text
    assert "\x1b" not in text


def test_a_logger_keeps_the_class_that_the_user_gave_to_all() -> None:
    class Counting(logging.Logger):
        pass

    before = logging.getLoggerClass()
    logging.setLoggerClass(Counting)
    try:
        ours = log.own_logger("actors.counted")
    finally:
        logging.setLoggerClass(before)
    assert isinstance(ours, Counting)
    assert isinstance(ours, log.OwnLogger)
    assert log.own_logger("actors.counted") is ours
    assert pickle.loads(pickle.dumps(ours)) is ours


def test_all_our_loggers_are_made_in_one_way() -> None:
    package = Path(actors.__file__).parent
    others = [
        str(path.relative_to(package))
        for path in package.rglob("*.py")
        if re.search(r"getLogger\((\"actors|__name__)", path.read_text())
    ]
    assert others == ["log/__init__.py"]


def test_a_text_line_says_nothing_twice(pipe: tuple[int, int]) -> None:
    configure("INFO", "text")
    extra = {"cause": "refused", "delay": 1.5, "queue": "q"}
    log.own_logger("actors.supervisor").warning("lost: refused; again in 1.5 s", extra=extra)
    assert os.read(pipe[0], 4096).endswith(b"lost: refused; again in 1.5 s queue=q\n")


@pytest.mark.parametrize("name", ["shop", "actors.handler.orders"])
def test_a_field_of_the_users_is_shown_whatever_the_line_says(
    pipe: tuple[int, int], name: str
) -> None:
    configure("INFO", "text")
    extra = {"tries": 1, "shop": "a"}
    log.own_logger(name).info("stored 12 orders in a second", extra=extra)
    assert os.read(pipe[0], 4096).endswith(b"in a second tries=1 shop=a\n")
