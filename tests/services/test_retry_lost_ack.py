"""A copy that is confirmed after its original's channel is gone: one too many, and counted."""

from __future__ import annotations

import pytest

from actors import App, Events, Retry
from actors.roles.port import Republish, Republished
from actors.testing import InMemorySystem


def test_a_lost_ack_costs_one_copy_which_is_counted(caplog: pytest.LogCaptureFixture) -> None:
    seen: list[int] = []

    def fail_once(messages: list[object]) -> None:
        seen.append(len(messages))
        if len(seen) == 1:
            raise ValueError

    app = App(host="h", user="u", password="p")
    app.route(["q"], options={Events.ON_EXCEPTION: Retry(first=5.0)})(fail_once)
    with InMemorySystem(app, raise_errors=False) as system:
        (client,) = system.world.clients.values()
        carry_out = client.republish

        def confirmed_too_late(request: Republish) -> None:
            carry_out(request)
            confirms = [event for event in client._events if isinstance(event, Republished)]
            channel = client.channels[request.epoch]
            (stored,) = system.world._later[-1:]
            channel.republishing.clear()
            channel.unsettled[request.position] = stored[3]
            client.fail("cut before the ack")
            client._events += confirms

        client.republish = confirmed_too_late  # type: ignore[method-assign]
        system.deliver("q", ["x"])
        client.republish = carry_out  # type: ignore[method-assign]
        system.advance(60.0)
        assert len(seen) == 3, "once, again as the original, and as the copy"
        assert system.status()["totals"]["stale"] >= 1
    assert "a copy too many" in caplog.text
