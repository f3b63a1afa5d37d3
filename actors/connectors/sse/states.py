"""The states of one event stream's connection to its server."""

from __future__ import annotations

from enum import Enum, auto

from actors.logic.state_machine import Table


class State(Enum):
    IDLE = auto()  #: no attempt is under way
    CONNECTING = auto()  #: the first attempt of its kind: nothing is known of the server
    WAITING = auto()  #: it broke; the next attempt begins after a backoff, in the same epoch
    PAUSED = auto()  #: the reader waits for room
    STREAMING = auto()  #: the reader reads
    LOST = auto()  #: it broke; the owner hears of it once nothing is unsettled
    CLOSED = auto()  #: the server has no more (204), for good


class Event(Enum):
    CONNECT = auto()
    ANSWERED = auto()  #: with a stream
    BROUGHT = auto()  #: what one read found; the reader waits
    RESUME = auto()
    BROKE = auto()  #: for the owner to decide
    RETRY = auto()  #: it broke, and events are unsettled that need this epoch
    NO_MORE = auto()  #: 204
    REPORTED = auto()  #: the owner knows
    GIVE_UP = auto()  #: the owner wants nothing of this attempt


_ATTEMPTING = (State.CONNECTING, State.WAITING)
_ANSWERED = (State.PAUSED, State.STREAMING)

TABLE: Table[State, Event] = Table(
    "the connection of an event stream",
    State.IDLE,
    {
        (State.IDLE, Event.CONNECT): State.CONNECTING,
        **{(state, Event.ANSWERED): State.PAUSED for state in _ATTEMPTING},
        **{(state, Event.NO_MORE): State.CLOSED for state in _ATTEMPTING},
        (State.PAUSED, Event.RESUME): State.STREAMING,
        (State.STREAMING, Event.BROUGHT): State.PAUSED,
        **{(state, Event.RETRY): State.WAITING for state in (*_ATTEMPTING, *_ANSWERED)},
        **{(state, Event.BROKE): State.LOST for state in (*_ATTEMPTING, *_ANSWERED)},
        (State.LOST, Event.REPORTED): State.IDLE,
        **{
            (state, Event.GIVE_UP): State.IDLE
            for state in (State.IDLE, *_ATTEMPTING, *_ANSWERED, State.LOST)
        },
    },
)
