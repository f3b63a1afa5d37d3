"""What a host offers against what a route requires."""

from __future__ import annotations

import pytest

from actors.errors import ConfigurationError
from actors.logic.supervision.placement import Offer, parse_offers, satisfies, spelled
from actors.plan.settings import Settings


@pytest.mark.parametrize(
    ("offers", "requires", "will_do"),
    [
        ((), (), True),
        (("gpu",), (("gpu", True),), True),
        (("gpu=2",), (("gpu", True),), True),
        ((), (("gpu", True),), False),
        (("gpu=0",), (("gpu", True),), False),
        (("gpu=2",), (("gpu", 2),), True),
        (("gpu",), (("gpu", 2),), False),
        (("gpu",), (("gpu", 1),), True),
        (("gpu=many",), (("gpu", 1),), False),
        (("zone=eu",), (("zone", "eu"),), True),
        (("zone=us",), (("zone", "eu"),), False),
        (("gpu",), (("gpu", False),), False),
        ((), (("gpu", False),), True),
        (("gpu", "zone=eu"), (("gpu", True), ("zone", "eu")), True),
        (("gpu",), (("gpu", True), ("zone", "eu")), False),
    ],
)
def test_a_host_runs_what_it_offers_all_for(
    offers: tuple[str, ...], requires: tuple[Offer, ...], will_do: bool
) -> None:
    assert satisfies(parse_offers(offers), requires) is will_do


def test_what_is_required_is_said_as_it_would_be_offered() -> None:
    wanted: tuple[Offer, ...] = (("gpu", True), ("memory", 64))
    assert spelled(wanted) == "gpu, memory=64"


@pytest.mark.parametrize("text", ["", "=2", "gpu="])
def test_an_offer_that_cannot_be_read_is_named(text: str) -> None:
    with pytest.raises(ConfigurationError, match="setting offer: must be KEY or KEY=VALUE, not"):
        Settings(offer=(text,))
