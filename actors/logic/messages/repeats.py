"""Events that happen again and again: reported once, and then as a number."""

from __future__ import annotations

from dataclasses import dataclass

#: Seconds of which one line tells.
PERIOD = 10.0


@dataclass(slots=True)
class _Repeated:
    since: float  #: when the last line told of it
    count: int = 0  #: how often it has happened since
    last: str = ""


class Repeats:
    """Failures by what they have in common, and which of them are still to be told."""

    def __init__(self) -> None:
        self._known: dict[str, _Repeated] = {}

    def is_new(self, kind: str, text: str, now: float) -> bool:
        """Whether a failure is to be told at once; where it is not, it is counted."""
        known = self._known.get(kind)
        if known is None:
            self._known[kind] = _Repeated(now)
            return True
        known.count += 1
        known.last = text
        return False

    def due(self, now: float, period: float = PERIOD) -> list[str]:
        """A line for each kind that is due; one that did not happen again is new once more."""
        lines = []
        for kind, known in list(self._known.items()):
            if now - known.since < period:
                continue
            if not known.count:
                del self._known[kind]
                continue
            times = "once more" if known.count == 1 else f"{known.count:,} more times"
            lines.append(f"{kind} {times} in {now - known.since:.0f} s; the last: {known.last}")
            self._known[kind] = _Repeated(now)
        return lines

    @property
    def empty(self) -> bool:
        """Whether nothing is remembered."""
        return not self._known
