"""The state that an app keeps for its hooks and handlers, in each process its own."""

from __future__ import annotations

from collections.abc import Iterator, MutableMapping
from typing import Any


class State(MutableMapping[str, Any]):
    """A mapping that is open to changes until the start-up hooks have run.

    Changing it later raises RuntimeError.
    """

    def __init__(self) -> None:
        self.state: dict[str, Any] = {}
        self.frozen = False

    def freeze(self) -> None:
        """The start-up hooks have run: from now on the state is read."""
        self.frozen = True

    def __getitem__(self, key: str) -> Any:
        return self.state[key]

    def __setitem__(self, key: str, value: Any) -> None:
        self._check_open(key)
        self.state[key] = value

    def __delitem__(self, key: str) -> None:
        self._check_open(key)
        del self.state[key]

    def __iter__(self) -> Iterator[str]:
        return iter(self.state)

    def __len__(self) -> int:
        return len(self.state)

    def __bool__(self) -> bool:
        return True

    # A mapping equals every other of the same content, and cannot be hashed; an app is itself.
    __eq__ = object.__eq__
    __hash__ = object.__hash__

    def _check_open(self, key: str) -> None:
        if self.frozen:
            raise RuntimeError(f"app[{key!r}]: the app has started, its state is frozen")
