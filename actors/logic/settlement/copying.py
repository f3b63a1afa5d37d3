"""The end of an attempt to make a copy, whatever its message holds and whatever its place
answers."""

from __future__ import annotations

from enum import IntEnum

#: How often a place may refuse a copy before it counts as one that always does.
REFUSALS_MAX = 3


class Form(IntEnum):
    """The form of a copy. Each next one asks for less."""

    WHOLE = 0  #: as its message is; of a dead letter without the headers that do not fit
    BARE = 1  #: body, id and our own notes
    KEPT = 2  #: in the spool of this machine, where nothing limits its headers


class Refusal(IntEnum):
    """The reason why a copy was not stored."""

    AWAY = 0  #: nobody could be asked, or nobody answered: it is tried again, without end
    REFUSED = 1  #: its place took it not this time: a full queue may have room soon
    BARRED = 2  #: its place takes no copy at all
    UNFIT = 3  #: nobody can make this copy in this form, or its place will never take it


def next_form(form: Form, refusal: Refusal, refused: int, *, dead: bool) -> Form | None:
    """The form in which to try again after so many refusals; None: this copy is given up.

    A retry is made whole or not at all, for a handler must not meet a message without its
    headers: what is given up waits in the worker and returns to its queue. A dead letter that
    even the spool does not take starts from the beginning.
    """
    if form is Form.KEPT:
        return Form.WHOLE
    if refusal is Refusal.AWAY or (refusal is Refusal.REFUSED and refused < REFUSALS_MAX):
        return form
    if not dead:
        return None
    return Form(form + 1) if refusal is Refusal.UNFIT else Form.KEPT
