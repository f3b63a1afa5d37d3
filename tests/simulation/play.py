"""One seed: a whole system of real actors under faults, and what must hold in it."""

from __future__ import annotations

import json
from functools import partial
from random import Random
from typing import Any, NamedTuple

from actors.connectors.journal import NoJournal
from actors.roles.protocol import Configure, Drain, Drained, Failed, ReportStatus, Status
from tests.simulation.broker import Broker
from tests.simulation.code import ScriptedCode
from tests.simulation.faults import ALL, BETWEEN_ACTORS, Faults
from tests.simulation.invariants import Witness
from tests.simulation.peer import Peer
from tests.simulation.scene import draw
from tests.simulation.spool import Spool
from tests.simulation.stage import FaultyStage
from tests.simulation.stories import Broken, Story
from tests.simulation.streams import Streams

ROOT = "root#1"

#: Virtual seconds in which all must be done once the faults are over.
BOUND = 1500.0
#: … and in which a system with work in hand must be drained.
DRAIN = 300.0

PEERS: dict[str, type[Peer]] = {"amqp": Broker, "sse": Streams, "spool": Spool}


class Limits(NamedTuple):
    """A smaller play of the same seed."""

    without: frozenset[str] = frozenset()  #: kinds of faults
    faults: int = ALL  #: that strike
    messages: int = ALL
    rounds: int = ALL


NO_LIMITS = Limits()


class Play:
    """A system, its peer and its witness."""

    stage: FaultyStage

    def __init__(self, seed: int, limits: Limits = NO_LIMITS) -> None:
        self.seed = seed
        self.limits = limits
        self.random = Random(seed)
        self.scene = scene = draw(self.random)
        self.faults = Faults(seed, limits.without, limits.faults)
        self.witness = Witness(scene, self.faults)
        self.peer = PEERS[scene.kind](scene, self.faults, self.witness, Random(seed + 1))
        code = partial(
            ScriptedCode,
            scene,
            self.peer,
            self.witness,
            Random(seed + 2),
            lambda: self.stage.playing,
        )
        clients: dict[str, Any] = {
            "runner": code,
            "journal": NoJournal,
            **dict.fromkeys(PEERS, self.peer.client),
        }
        self._clients = clients
        self.stage = FaultyStage(clients, seed, self.faults, self.peer, self.witness)

    def run(self) -> None:
        """Raises `Broken` where anything does not hold."""
        with self.peer.begin():
            try:
                self._run()
            finally:
                self.stage.close()

    def _run(self) -> None:
        stage, random = self.stage, self.random
        stage.create(ROOT, "root")
        self._tell(Configure(self.scene.plan, "root"))
        for _ in range(min(self.scene.rounds, self.limits.rounds)):
            self._deliver(random.randint(0, self.scene.burst))
            self.peer.round()
            if self.faults.strikes("stall"):
                stage.stall(100.0 * random.random() ** 2)
            stage.advance(random.choice((0.0, 0.5, 3.0, 10.0)))
        self.faults.end()
        self.peer.rest()
        self._come_to_rest()
        if self.scene.drain:
            self._deliver(self.scene.burst)
            stage.advance(random.choice((0.0, 0.01, 0.5, 3.0)))
            self._drain()
            self._start_again()
            self._come_to_rest()

    def _start_again(self) -> None:
        """Another system, to which the world gives what the drained one gave back."""
        drained = self.stage
        drained.close()
        self.witness.restarted()
        self.stage = FaultyStage(self._clients, self.seed, self.faults, self.peer, self.witness)
        self.stage.now, self.stage.trace = drained.now, drained.trace
        self.stage.create(ROOT, "root")
        self._tell(Configure(self.scene.plan, "root"))

    def _deliver(self, count: int) -> None:
        random, scene, stories = self.random, self.scene, self.witness.stories
        for _ in range(count):
            key = str(random.randint(1, 3))
            acts = [
                random.choice(scene.acts)
                for _ in range(3)
                if scene.acts and random.random() < scene.rate
            ]
            queue = random.choice(scene.queues)
            number = len(stories) + 1
            if number <= self.limits.messages:
                stories[number] = Story(key, acts, self.faults.strikes("unfit"))
                self.peer.put(number, key, queue)

    # ── what must hold at rest ────────────────────────────────────────────────

    def _come_to_rest(self) -> None:
        stage = self.stage
        end = stage.now + BOUND
        while not self._is_at_rest():
            self._look_for_failure()
            if stage.now >= end:
                raise Broken(f"I6: {self.peer.left()} are left; {self._status()['totals']}")
            stage.advance(5.0)
        self._look_for_repetitions()

    def _look_for_repetitions(self) -> None:
        """Where messages between actors are all that suffers, nothing is handled twice."""
        quiet = not self.scene.acts or not self.scene.rate
        if quiet and self.faults.rates.keys() <= BETWEEN_ACTORS:
            for number, story in self.witness.stories.items():
                self.witness.holds(story.seen <= 1, f"I3: {number} was handled {story.seen} times")

    def _is_at_rest(self) -> bool:
        if self.peer.left():
            return False
        status = self._status()
        return status["ready"] and not status["totals"]["in_flight"]

    def _drain(self) -> None:
        stage, revoked = self.stage, self.peer.revoked
        self._tell(Drain(DRAIN))
        for _ in range(int(DRAIN)):
            if drained := [m for m in stage.outbox if isinstance(m, Drained)]:
                break
            stage.advance(1.0)
        else:
            raise Broken(f"I6: not drained in {DRAIN:g} s")
        self._look_for_failure()
        # A broker that finds a consumer too slow gives its deliveries to others, whatever time
        # the drain has left; a drain that says so is right.
        left = drained[0].left
        self.witness.holds(
            left <= self.peer.revoked - revoked,
            f"I6: {left} deliveries were left by a drain with time enough",
        )

    def _look_for_failure(self) -> None:
        for message in self.stage.outbox:
            if isinstance(message, Failed):
                raise Broken(f"I6: the system gave up: {message.reason}")

    def _status(self) -> dict[str, Any]:
        stage = self.stage
        asked = len(stage.outbox)
        self._tell(ReportStatus())
        while not (answers := [m for m in stage.outbox[asked:] if isinstance(m, Status)]):
            stage.advance(0.1)
        report: dict[str, Any] = json.loads(answers[0].report)
        return report

    def _tell(self, message: Configure | Drain | ReportStatus) -> None:
        self.stage.post("launcher", ROOT, message)
        self.stage.run_until_idle()

    def __str__(self) -> str:
        return f"seed {self.seed}: {self.scene}\nfaults: {self.faults}"
