"""Drains: whatever happens, they end; and children end before their supervisor."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from actors.logic.state_machine import Table
from actors.logic.supervision import drain
from actors.logic.supervision.drain import MARGIN_S, Deadline


@given(st.floats(0.0, 1e6), st.floats(0.0, 1e4), st.floats(0.0, 1e4))
def test_children_end_two_margins_before_their_supervisor(
    now: float, seconds: float, later: float
) -> None:
    deadline = Deadline(now + seconds)
    at = now + later
    assert deadline.left(at) >= 0.0
    assert deadline.has_passed(at) == (at >= deadline.at)
    left = deadline.left_for_children(at)
    assert left >= MARGIN_S, "their last words take time even where none is left"
    if left > MARGIN_S:
        assert at + left == pytest.approx(deadline.at - 2 * MARGIN_S)


@pytest.mark.parametrize("table", [drain.TABLE, drain.PIPELINE_TABLE], ids=lambda t: t.name)
def test_every_phase_but_the_last_ends_by_its_deadline(table: Table[Any, Any]) -> None:
    phases = type(table.first)
    event = type(next(iter(table.transitions))[1]).DEADLINE
    begun = [phase for phase in phases if phase.name not in ("RUNNING", "SHUTTING", "CLOSED")]
    for phase in begun:
        after = table.after(phase, event)
        assert after.name in ("SHUTTING", "CLOSED")
    assert not any(state.name == "CLOSED" for state, _ in table.transitions), "closed is the end"
