"""Log lines on stderr: readable on a terminal, JSON elsewhere, never a secret.

The root logger is the user's: where it has handlers once the app is imported, Callboard's
lines, of the logger `actors`, go to those. Only where it has none does it get ours.
"""

from __future__ import annotations

import json
import logging
import os
import re
import select
import stat
import time
from typing import Any
from urllib.parse import quote

from actors.logic.plain import plain
from actors.logic.secrets import MASK, masked

__all__ = ["FORMATS", "configure", "name_secret", "redact"]

FORMATS = ("text", "json")

#: Characters of one value; of one message; of one traceback, of which the end tells most.
VALUE, MESSAGE, TRACEBACK = 500, 2000, 12000

#: These tell at INFO what they do, not what happens to messages.
CHATTY = ("httpx", "httpcore", "elastic_transport")

#: Characters of a secret that is masked wherever it stands.
SECRET = 6

_forms: set[str] = set()
_named: list[re.Pattern[str]] = []

_STANDARD = frozenset(vars(logging.makeLogRecord({}))) | {"message", "asctime", "taskName"}


def configure(level: str = "INFO", format: str = "") -> None:
    """Send log lines to stderr from now on, in this process and those it forks.

    May be called again, after a fork too. `format` is "text", "json", or empty for what
    suits stderr.
    """
    handler = StderrHandler(getattr(logging, level.upper()))
    text = format == "text" or (not format and os.isatty(handler.fd))
    handler.setFormatter(TextFormatter() if text else JSONFormatter())
    logging.raiseExceptions = False
    logging.getLogger("actors").setLevel(handler.level)
    root = logging.getLogger()
    if all(isinstance(other, StderrHandler) for other in root.handlers):
        root.handlers[:] = [handler]
        root.setLevel(handler.level)
        for name in CHATTY:
            logging.getLogger(name).setLevel(max(handler.level, logging.WARNING))


def redact(text: str) -> str:
    """The text with each secret in it masked: those that were named, and what looks like one."""
    if _named:
        text = _named[0].sub(MASK, text)
    return masked(text)


def name_secret(secret: str) -> None:
    """Mask a secret of this process and of its forks wherever it stands from now on.

    A common word is not one that can be told from the text around it, and is masked only where
    a password stands.
    """
    kinds = [str.islower, str.isupper, str.isdigit, lambda char: not char.isalnum()]
    if len(secret) >= SECRET and sum(any(map(kind, secret)) for kind in kinds) > 1:
        forms = (secret, quote(secret), quote(secret, safe=""), repr(secret)[1:-1])
        _forms.update((*forms, json.dumps(secret)[1:-1]))
        longest_first = sorted(_forms, key=len, reverse=True)
        _named[:] = [re.compile("|".join(map(re.escape, longest_first)))]


class StderrHandler(logging.Handler):
    """Writes whole lines and waits for nobody: what stderr does not take is counted."""

    fd = 2

    def __init__(self, level: int) -> None:
        super().__init__(level)
        self.dropped = 0

    def emit(self, record: logging.LogRecord) -> None:
        try:
            if self.dropped:
                self._write(self.format(_notice(self.dropped)))
                self.dropped = 0
            self._write(self.format(record))
        except Exception:
            self.dropped += 1

    def _write(self, line: str) -> None:
        data = line.encode("utf-8", "backslashreplace") + b"\n"
        if not stat.S_ISFIFO(os.fstat(self.fd).st_mode):
            if not select.select([], [self.fd], [], 0)[1]:
                raise BlockingIOError
            os.write(self.fd, data)
            return
        # Opened anew, for O_NONBLOCK on the descriptor itself would reach every process
        # that shares it; each time, for an actor's process may have closed ours.
        pipe = os.open(f"/proc/self/fd/{self.fd}", os.O_WRONLY | os.O_NONBLOCK)
        try:
            os.write(pipe, data)
        finally:
            os.close(pipe)


class TextFormatter(logging.Formatter):
    """`12:00:00 INFO connection rabbitmq: consumes words`; our own lines begin with who speaks."""

    def format(self, record: logging.LogRecord) -> str:
        moment = time.strftime("%H:%M:%S", time.localtime(record.created))
        words = [moment, record.levelname, _speaker(record.name) + _message(record)]
        words += [f"{key}={value}" for key, value in _extra(record).items()]
        traceback = _traceback(record)
        return " ".join(words) + (f"\n{traceback}" if traceback else "")


class JSONFormatter(logging.Formatter):
    """One object a line: ts, level, logger, msg, the extra fields, and exc where one is."""

    def format(self, record: logging.LogRecord) -> str:
        moment = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(record.created))
        line = {
            "ts": f"{moment}.{int(record.msecs):03}Z",
            "level": record.levelname,
            "logger": record.name,
            "msg": _message(record),
            **_extra(record),
        }
        if traceback := _traceback(record):
            line["exc"] = traceback
        return json.dumps(line, ensure_ascii=False)


def _notice(dropped: int) -> logging.LogRecord:
    return logging.makeLogRecord({
        "name": "actors.log", "levelno": logging.WARNING, "levelname": "WARNING",
        "msg": "%d log lines were dropped: stderr took nothing", "args": (dropped,),
    })  # fmt: skip


def _speaker(logger: str) -> str:
    return "" if logger.partition(".")[0] == "actors" else f"{logger}: "


def _message(record: logging.LogRecord) -> str:
    try:
        text = record.getMessage()
    except Exception:  # arguments that do not fit: the line still tells what it can
        text = f"{record.msg} {record.args!r}"
    return _plain(text, MESSAGE)


def _extra(record: logging.LogRecord) -> dict[str, Any]:
    fields = ((key, value) for key, value in vars(record).items() if key not in _STANDARD)
    return {
        key: value if isinstance(value, (int, float)) else _plain(str(value), VALUE)
        for key, value in fields
        if value is not None
    }


def _traceback(record: logging.LogRecord) -> str:
    if not record.exc_info:
        return ""
    text = redact(logging.Formatter().formatException(record.exc_info))[-TRACEBACK:]
    return "\n".join(_plain(line, MESSAGE) for line in text.splitlines())


def _plain(text: str, limit: int) -> str:
    """Without secrets, and without control characters, which forge lines or move cursors."""
    text = redact(text)
    cut = text if len(text) <= limit else f"{text[:limit]}… ({len(text):,} characters)"
    return plain(cut)
