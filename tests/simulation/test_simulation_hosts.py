"""Seeds of hosts that join, die, are cut off, heal and are drained, under lost messages.

`CALLBOARD_HOST_SEEDS=N` plays the first N, `CALLBOARD_HOST_SEEDS=M-N` those from M to N.
"""

from __future__ import annotations

import pytest

from actors.usercode.runner import InlineUserCode
from tests.simulation.hosts import HostsPlay
from tests.simulation.seeds import chosen

SEEDS = 30
IN_ONE_TEST = 10


def portions() -> list[range]:
    seeds = chosen("CALLBOARD_HOST_SEEDS", SEEDS)
    return [seeds[start : start + IN_ONE_TEST] for start in range(0, len(seeds), IN_ONE_TEST)]


@pytest.mark.parametrize("seeds", portions(), ids=lambda seeds: f"{seeds[0]}-{seeds[-1]}")
def test_whatever_happens_to_hosts_no_message_is_lost_and_all_drains(seeds: range) -> None:
    for seed in seeds:
        play = HostsPlay(seed)
        try:
            play.run()
        except Exception as error:
            replay = f"CALLBOARD_HOST_SEEDS={seed}-{seed} python -m pytest {__file__}"
            trace = "\n".join(play.system.stage.trace[-80:])
            pytest.fail(f"{error}\n{trace}\nreplay: {replay}")


def test_a_handler_that_does_not_look_at_its_lease_is_found(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A planted bug: what was taken from a host that was paused is begun when it goes on."""
    monkeypatch.setattr(InlineUserCode, "lease", lambda self, until: None)

    def play_all() -> None:
        for seed in range(300):
            HostsPlay(seed).run()

    with pytest.raises(AssertionError, match="H4: "):
        play_all()
