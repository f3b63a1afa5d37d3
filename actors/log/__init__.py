"""Log lines on stderr: readable on a terminal, JSON elsewhere, never a secret.

The root logger is the user's: where it has handlers once the app is imported, Callboard's
lines, of the logger `actors`, go to those. Only where it has none does it get ours.
"""

from __future__ import annotations

import json
import logging
import os
import re
import time
from collections import Counter
from contextlib import suppress
from typing import Any
from urllib.parse import quote

from actors.log.lines import LOCK_TIMEOUT_S, SharedLines
from actors.logic.messages.plain import plain
from actors.logic.messages.secrets import MASK, masked

__all__ = ["FORMATS", "configure", "in_force", "name_secret", "own_logger", "redact"]

#: The descriptor that lines are written to.
STDERR = 2

FORMATS = ("text", "json")

#: Characters of one value; of one message; of one traceback, of which the end tells most.
VALUE, MESSAGE, TRACEBACK = 500, 2000, 12000

#: These tell at INFO what they do, not what happens to messages.
CHATTY = ("httpx", "httpcore", "elastic_transport")

#: Characters of a secret that is masked wherever it stands.
SECRET = 6

#: Secrets that are remembered, the latest: tokens that expire are named again and again.
SECRETS = 100

_forms: dict[str, set[str]] = {}  #: of each secret, as it may be spelled
_named: list[re.Pattern[str]] = []

_STANDARD = frozenset(vars(logging.makeLogRecord({}))) | {"message", "asctime", "taskName"}


def configure(level: str = "INFO", format: str = "") -> None:
    """Send log lines to stderr from now on, in this process and those it forks.

    May be called again, after a fork too. `format` is "text", "json", or empty for what
    suits stderr.
    """
    # Declared before the forks, which share it.
    lines = next((other.lines for other in _ours()), None) or SharedLines(STDERR)
    handler = StderrHandler(getattr(logging, level.upper()), lines)
    text = format == "text" or (not format and os.isatty(lines.fd))
    handler.setFormatter(TextFormatter() if text else JSONFormatter())
    logging.raiseExceptions = False
    logging.lastResort = handler  # where the user's configuration leaves no handler at all
    logging.getLogger("actors").setLevel(handler.level)
    root = logging.getLogger()
    if all(isinstance(other, StderrHandler) for other in root.handlers):
        root.handlers[:] = [handler]
        root.setLevel(handler.level)
        for name in CHATTY:
            logging.getLogger(name).setLevel(max(handler.level, logging.WARNING))


def in_force() -> bool:
    """Whether this is a process of a worker, whose lines are read as they come."""
    return bool(_ours())


def _ours() -> list[StderrHandler]:
    handlers = [*logging.getLogger().handlers, logging.lastResort]
    return [each for each in handlers if isinstance(each, StderrHandler)]


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
    if len(secret) < SECRET or sum(any(map(kind, secret)) for kind in kinds) < 2:
        return
    if secret in _forms:
        _forms[secret] = _forms.pop(secret)  # the latest again
        return
    quoted = (quote(secret), quote(secret, safe=""), repr(secret)[1:-1], json.dumps(secret)[1:-1])
    _forms[secret] = {secret, *quoted}
    while len(_forms) > SECRETS:
        del _forms[next(iter(_forms))]
    longest_first = sorted({form for forms in _forms.values() for form in forms}, key=len)[::-1]
    _named[:] = [re.compile("|".join(map(re.escape, longest_first)))]


class OwnLogger(logging.Logger):
    """A logger of Callboard's. Only a configuration that names it can silence it.

    `dictConfig` and `fileConfig` disable every logger that they find and do not name, unless
    they are told not to; a failure that is logged nowhere would be the price. `logging.disable`
    takes what is below ERROR. What is logged goes without secrets and in one line to the
    handlers of the user too.
    """

    @property
    def disabled(self) -> bool:
        return False

    @disabled.setter
    def disabled(self, value: bool) -> None:
        pass

    def isEnabledFor(self, level: int) -> bool:
        if level >= logging.ERROR:
            return level >= self.getEffectiveLevel()
        return super().isEnabledFor(level)

    def handle(self, record: logging.LogRecord) -> None:
        try:
            said = record.getMessage()
        except Exception:  # arguments that do not fit
            said = f"{record.msg} {record.args!r}"
        if (shown := plain(redact(said))) != said:
            record.msg, record.args = shown, ()
        if record.exc_info:
            record.exc_text = _traceback(record)  # what formatters show, where it is set
        super().handle(record)


def own_logger(name: str) -> logging.Logger:
    """The logger of this name, for Callboard's own lines."""
    found = logging.getLogger(name)
    if not isinstance(found, OwnLogger):
        # Of the class that the user may have set for all loggers, too.
        found.__class__ = type(OwnLogger.__name__, (OwnLogger, type(found)), {})
    return found


class StderrHandler(logging.Handler):
    """Writes whole lines, and drops what stderr does not take in time: that is counted."""

    def __init__(self, level: int, lines: SharedLines) -> None:
        super().__init__(level)
        self.lines = lines

    def emit(self, record: logging.LogRecord) -> None:
        with suppress(Exception):
            self.lines.write(self._encoded(record), self._notice)

    def flush(self) -> None:
        """At the end: what is still to be said."""
        with suppress(Exception):
            self.lines.flush(self._notice)

    def _notice(self, dropped: int) -> bytes:
        return self._encoded(_notice(dropped))

    def _encoded(self, record: logging.LogRecord) -> bytes:
        return self.format(record).encode("utf-8", "backslashreplace") + b"\n"


class TextFormatter(logging.Formatter):
    """`12:00:00 INFO connection rabbitmq: consumes words`; our own lines begin with who speaks."""

    def format(self, record: logging.LogRecord) -> str:
        moment = time.strftime("%H:%M:%S", time.localtime(record.created))
        words = [moment, record.levelname, _speaker(record.name) + _message(record)]
        fields = _extra(record)
        if _is_ours(record.name):  # what the line has said already is for JSON alone
            said = words[-1]
            fields = {key: value for key, value in fields.items() if str(value) not in said}
        words += [f"{key}={value}" for key, value in fields.items()]
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
        "msg": f"{dropped:,} log {'line was' if dropped == 1 else 'lines were'} dropped: stderr"
        f" did not take {'it' if dropped == 1 else 'them'} within {LOCK_TIMEOUT_S:g} s",
    })  # fmt: skip


def _is_ours(logger: str) -> bool:
    """Whether only Callboard logs by this name: a handler's `self.log` is its user's."""
    return logger.startswith("actors.") and not logger.startswith("actors.handler")


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


class ThrottledLog:
    """Counts what should not happen, and logs each kind at most once a second."""

    def __init__(self, logger: logging.Logger) -> None:
        self.counts: Counter[str] = Counter()
        self._log = logger
        self._last: dict[str, float] = {}

    def add(self, what: str, detail: object = "", count: int = 1) -> None:
        self.counts[what] += count
        now = time.monotonic()
        if now - self._last.get(what, float("-inf")) >= 1.0:
            self._last[what] = now
            self._log.warning("%s: %s (%d so far)", what, detail, self.counts[what])
