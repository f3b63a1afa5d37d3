"""The hosts that have joined, as the leader knows them."""

from __future__ import annotations

from actors.logic.supervision.node_directory import NodeDirectory, NodeEntry
from actors.logic.supervision.remote_node import LOST_AFTER_S


def on_report(
    nodes: NodeDirectory,
    supervisor: str,
    host: str,
    now: float = 0.0,
    *,
    app: str = "m:app",
    version: str = "1",
    state: str = "running",
) -> NodeEntry:
    return nodes.on_report(supervisor, host, app, version, 7, state, now)


def nodes() -> NodeDirectory:
    return NodeDirectory("one", "m:app", "1")


def states(among: NodeDirectory, now: float = 0.0) -> list[tuple[str, str, str]]:
    return [(row["name"], row["state"], row["reason"]) for row in among.status(now)]


def test_who_runs_the_same_app_is_taken_in() -> None:
    known = nodes()
    assert on_report(known, "host#a", "two").refused == ""
    assert states(known) == [("two", "running", "")]
    assert known.names() == ["one", "two"]


def test_who_does_not_is_refused_with_the_reason() -> None:
    known = nodes()
    assert "version" in on_report(known, "host#a", "two", version="2").refused
    assert "m:other" in on_report(known, "host#b", "three", app="m:other").refused
    assert [state for _, state, _ in states(known)] == ["waiting", "waiting"]


def test_a_name_is_free_again_once_its_host_is_lost() -> None:
    known = nodes()
    on_report(known, "host#a", "two")
    assert on_report(known, "host#b", "two", 5.0).refused == "a host named two is here already"
    assert on_report(known, "host#c", "one").refused == "a host named one is here already"
    assert on_report(known, "host#b", "two", LOST_AFTER_S).refused == ""


def test_silence_is_said_before_a_host_is_lost() -> None:
    known = nodes()
    on_report(known, "host#a", "two")
    assert states(known, 7.0) == [("two", "waiting", "nothing heard of it for 7 s")]
    assert states(known, LOST_AFTER_S) == []


def test_a_host_that_has_stopped_is_gone_at_once() -> None:
    known = nodes()
    on_report(known, "host#a", "two")
    assert known.drain("two")
    assert on_report(known, "host#a", "two", state="draining").leave
    assert states(known) == [("two", "draining", "")]
    on_report(known, "host#a", "two", state="stopped")
    assert states(known) == []
    assert not known.drain("two")
