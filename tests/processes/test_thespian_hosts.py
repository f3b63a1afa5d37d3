"""Actors of different hosts: they find each other by the leader's address, and talk directly."""

from __future__ import annotations

import os
from collections.abc import Iterator

import pytest

from actors.plan.network import Network
from actors.roles.protocol import Neighbours
from actors.stages.thespian.launcher import Launcher, ask
from tests.support.thespian_cast import Play, on_stage, report, until

KEY = os.urandom(32)


@pytest.fixture
def leader() -> Iterator[Launcher]:
    with on_stage(Network("127.0.0.2", keys=(KEY,))) as launcher:
        yield launcher


@pytest.fixture
def member(leader: Launcher) -> Iterator[Launcher]:
    leaders = ("127.0.0.9:1", f"127.0.0.2:{leader.admin_port}")
    with on_stage(Network("127.0.0.3", keys=(KEY,), leaders=leaders)) as launcher:
        yield launcher


def test_the_top_actor_of_another_host_answers_who_knows_only_its_admin(
    leader: Launcher, member: Launcher
) -> None:
    member.send(Play("ask", (f"127.0.0.2:{leader.admin_port}", 7)))
    answer = until(lambda: report(member)["reports"].get(f"{leader.top} 7"))
    assert answer["name"] == leader.top


def test_after_that_it_is_known_by_its_own_name(leader: Launcher, member: Launcher) -> None:
    member.send(Play("ask", (f"127.0.0.2:{leader.admin_port}", 7)))
    until(lambda: report(member)["reports"])
    member.send(Play("ask", (leader.top, 8)))
    assert until(lambda: report(member)["reports"].get(f"{leader.top} 8"))


def test_a_leader_that_nobody_plays_is_silent(leader: Launcher, member: Launcher) -> None:
    member.send(Play("ask", ("127.0.0.9:1", 7)))
    member.send(Play("ask", (f"127.0.0.2:{leader.admin_port}", 8)))
    reports = until(lambda: report(member)["reports"])
    assert set(reports) == {f"{leader.top} 8"}


def test_actors_of_two_hosts_talk_once_they_are_introduced(
    leader: Launcher, member: Launcher
) -> None:
    there = f"127.0.0.2:{leader.admin_port}"
    member.send(Play("create", ("hand#m.1", "puppet")))
    leader.send(Play("create", ("batch#l.1", "puppet")))
    member.send(Play("send", (there, Neighbours(connection="hand#m.1"))))
    report(member)

    def answered() -> bool:
        leader.send(Play("introduce", ("batch#l.1", "hand#m.1")))
        leader.send(Play("send", ("batch#l.1", Play("ask", ("hand#m.1", 3)))))
        leader.send(Play("ask", ("batch#l.1", 4)))
        found = report(leader)["reports"].get("batch#l.1 4", {})
        return "hand#m.1 3" in found.get("reports", {})

    assert until(answered)


def test_a_visitor_is_answered_on_the_address_of_the_host(leader: Launcher) -> None:
    network = Network("127.0.0.2", leader.admin_port, (KEY,))
    assert ask(network, Play("ask", ("nobody", 1)), 0.1) is None
    assert "ask" in report(leader)["heard"]
