"""What a play knows of its messages, and of each delivery of them."""

from __future__ import annotations

from dataclasses import dataclass, field


class Broken(BaseException):
    """An invariant that does not hold; the text begins with its name.

    No `Exception`: what is played catches those, and must not catch this.
    """


@dataclass(slots=True)
class Story:
    """What handlers are to do with a message, and what they have done."""

    key: str
    acts: list[str]
    unfit: bool = False  #: no copy of it can be made
    seen: int = 0
    hung: bool = False
    told_to: int = 0  #: the connection process under which it was seen last
    alone: int = 0  #: deaths of a process with nothing else in it

    def act(self) -> str:
        self.seen += 1
        act = self.acts.pop(0) if self.acts else "ack"
        self.hung |= act == "hang"
        return act


@dataclass(slots=True)
class Receipt:
    """One delivery of a message to a connection."""

    number: int
    key: str
    outcomes: set[int] = field(default_factory=set)  #: of handlers
    handed: bool = False  #: a handler has had it
    closed: bool = False  #: what came behind it may go on
    copied: bool = False  #: its copy is safe


class Receipts(dict[tuple[int, int], Receipt]):
    """All deliveries to one connection process, by epoch and position."""

    def __init__(self, serial: int) -> None:
        self.serial = serial
        self.open: dict[int, set[int]] = {}  #: unsettled positions, by living epoch
