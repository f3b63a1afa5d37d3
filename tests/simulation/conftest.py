"""What all simulations have in common: silence."""

from __future__ import annotations

import logging
from collections.abc import Iterator

import pytest

from tests.simulation.seeds import silence


@pytest.fixture(autouse=True)
def quiet() -> Iterator[None]:
    silence()
    yield
    logging.disable(logging.NOTSET)
