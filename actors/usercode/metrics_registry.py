"""The store of a process's metrics: in memory, or in files that outlive it.

`prometheus_client` is imported when the first metric is used: who measures nothing does not
pay for it.
"""

from __future__ import annotations

import multiprocessing
import os
from collections.abc import Mapping
from pathlib import Path
from threading import Lock
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

from actors.log import own_logger
from actors.metrics import Declaration

if TYPE_CHECKING:
    from prometheus_client import CollectorRegistry

#: Names the directory of the files, for this system and for `prometheus_client` itself.
DIRECTORY = "PROMETHEUS_MULTIPROC_DIR"


logger = own_logger("actors.metrics")


class MemoryRegistry:
    """The measures of one system in memory, for tests."""

    def __init__(self) -> None:
        self._metrics: dict[Declaration, Any] = {}
        self._registry: CollectorRegistry | None = None
        self._lock = Lock()

    def find(self, declaration: Declaration, labelvalues: tuple[str, ...]) -> Any:
        with self._lock:  # a handler may have several threads
            metric = self._metrics.get(declaration) or self._made(declaration)
            self._metrics[declaration] = metric
            return metric.labels(*labelvalues) if labelvalues else metric

    def sample(self, name: str, labels: Mapping[str, str]) -> float:
        """One number as `/metrics` would name it; 0 where nothing was measured."""
        if self._registry is None:
            return 0.0
        return self._registry.get_sample_value(name, dict(labels)) or 0.0

    def _made(self, declaration: Declaration) -> Any:
        import prometheus_client

        if self._registry is None:
            self._registry = self._opened()
        made = getattr(prometheus_client, declaration.kind)
        return made(
            declaration.name,
            declaration.documentation,
            declaration.labelnames,
            registry=self._registry,
            **dict(declaration.options),
        )

    def _opened(self) -> CollectorRegistry:
        from prometheus_client import CollectorRegistry

        return CollectorRegistry()


class FileRegistry(MemoryRegistry):
    """The measures of a process of a real system, in files of the slot that it plays in.

    Its successor goes on counting in the same files, so that there are never more of them
    than slots, however often processes die. What a gauge says dies with its process. Where
    there is no room for a file, its metrics are not kept: that costs no message.
    """

    ROOM = 65536  #: bytes of a file, as `prometheus_client` begins it

    def __init__(self, directory: Path, slot: str) -> None:
        super().__init__()
        self._directory = directory
        self._slot = quote(slot, safe="")
        for file in directory.glob(f"gauge_*_{self._slot}.db"):
            file.unlink()

    def find(self, declaration: Declaration, labelvalues: tuple[str, ...]) -> Any:
        try:
            self._reserve(declaration)
            return super().find(declaration, labelvalues)
        except OSError as error:
            logger.warning("metric %s is not kept: %s", declaration.name, error)
            return None

    def _reserve(self, declaration: Declaration) -> None:
        """Have the disk keep the room: to write to a page that it has none for is a SIGBUS."""
        mode = dict(declaration.options).get("multiprocess_mode")
        kind = f"{declaration.kind.lower()}_{mode}" if mode else declaration.kind.lower()
        with (self._directory / f"{kind}_{self._slot}.db").open("ab") as file:
            os.posix_fallocate(file.fileno(), 0, self.ROOM)

    def _opened(self) -> CollectorRegistry:
        from prometheus_client import values

        # Not by its own choice, at its import: that may have been before there was a directory.
        values.ValueClass = values.MultiProcessValue(lambda: self._slot)  # type: ignore[no-untyped-call]
        return super()._opened()


def opened() -> FileRegistry | None:
    """The registry of this process, where the system has one; named after what it plays."""
    directory = os.environ.get(DIRECTORY)
    slot = multiprocessing.current_process().name.partition("#")[0]
    return FileRegistry(Path(directory), slot) if directory else None
