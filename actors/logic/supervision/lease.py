"""The handlers that one pipeline wants on a joined host, for as long as it says so."""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

#: Seconds for which a pipeline's word holds, from when the host asked for it. The pipeline hands
#: out again after `remote_node.LOST_AFTER_S`, which is longer: by then what it gave to a lost host
#: has ended.
LEASE = 10.0


class Death(NamedTuple):
    """A handler that the pipeline still wants, and that is dead."""

    handler: str
    cause: str
    innocent: bool  #: it was ended for want of the pipeline's word, whatever it held


class Lease:
    """The handlers of one pipeline on this host.

    The pipeline's word is an assignment: a number that counts up, and all that is to live here. A
    name that has died is never begun again, and a slot has room for one.
    """

    def __init__(self) -> None:
        self.number = 0  #: of the assignment in force
        self.done = 0  #: of the last that was carried out: all on it live, or have died
        self.expires = 0.0
        self.living: set[str] = set()  #: until their processes are gone
        self._wanted: tuple[str, ...] = ()
        self._dead: dict[str, Death] = {}  # of those that are wanted
        self._expired: set[str] = set()

    @property
    def deaths(self) -> tuple[Death, ...]:
        """What the pipeline is to be told until it wants these no more."""
        return tuple(self._dead.values())

    def renew(self, number: int, wanted: Iterable[str], asked: float) -> None:
        """The pipeline's word, in answer to what was asked then; an overtaken one changes
        nothing."""
        if number < self.number:
            return
        self.number, self._wanted = number, tuple(wanted)
        self.expires = max(self.expires, asked + LEASE)
        self._dead = {name: death for name, death in self._dead.items() if name in self._wanted}
        self._note_done()

    def expire(self, now: float) -> None:
        """Without the pipeline's word nothing is wanted."""
        if now >= self.expires:
            self._expired |= self.living

    def to_start(self, now: float) -> list[str]:
        """Whom to begin now: not while another lives in the same slot."""
        taken = {_slot(name) for name in self.living}
        missing = self._missing() if now < self.expires else []
        return [name for name in missing if _slot(name) not in taken]

    def began(self, name: str) -> None:
        """A process was created."""
        self.living.add(name)
        self._note_done()

    def to_end(self) -> list[str]:
        """Whom to kill: who is not wanted, or was there when the lease expired."""
        return [name for name in self.living if name not in self._wanted or name in self._expired]

    def died(self, name: str, cause: str) -> None:
        """A process is gone."""
        self.living.discard(name)
        expired = name in self._expired
        self._expired.discard(name)
        if name in self._wanted:
            cause = f"no word from its pipeline for {LEASE:g} s" if expired else cause
            self._dead[name] = Death(name, cause, expired)
        self._note_done()

    def _missing(self) -> list[str]:
        return [n for n in self._wanted if n not in self.living and n not in self._dead]

    def _note_done(self) -> None:
        if not self._missing():
            self.done = self.number


def _slot(name: str) -> str:
    return name.partition("#")[0]
