"""A push over many gateways: who goes when, and when it stops; what proves a configuration on probation."""

import pytest

from agent import probation
from agent.rollout import Rollout, waves

NAMES = tuple(f"g{number}" for number in range(20))


def test_a_canary_then_percentages_then_the_rest():
    """Each gateway once, in order."""
    plan = tuple(waves(NAMES, 1, (10, 50)))
    assert [len(wave) for wave in plan] == [1, 1, 8, 10]
    assert [name for wave in plan for name in wave] == list(NAMES)
    assert tuple(waves(NAMES[:1], 3, (10, 50))) == (NAMES[:1],)
    assert [len(wave) for wave in waves(NAMES, 0, ())] == [20]


def test_a_failed_canary_stops_everything():
    """However many failures would be allowed later."""
    rollout = Rollout(tuple(waves(NAMES, 1, ())), 100, {"g0": "rolled-back"})
    assert rollout.over(("g0",))
    assert not rollout.may_go_on(0)


def test_a_share_of_failures_stops_the_rest():
    """Of those that have ended; what is on probation has not."""
    states = dict.fromkeys(NAMES[:18], "confirmed") | {"g18": "silent", "g19": "applied"}
    assert Rollout((), 5, dict(states)).may_go_on(2) is False
    assert Rollout((), 6, dict(states)).may_go_on(2) is True
    assert not Rollout((), 5, dict(states)).over(NAMES)


def document(alive=True, connected=True, acknowledged=2, uplink="province"):
    """Give a state with one device and one uplink."""
    device = {"alive": alive}
    spoken = {"connected": connected, "acknowledged": {"main": acknowledged}}
    return {"links": {"bus": {"devices": {"meter": device}}}, "uplinks": {uplink: spoken} if uplink else {}}


@pytest.mark.parametrize(
    ("now", "code"),
    [
        (document(), None),
        (document(alive=None), "push.device-dead"),
        (document(alive=False), "push.device-dead"),
        (document(connected=False), "push.not-delivered"),
        (document(acknowledged=1), "push.not-delivered"),
        (document(acknowledged=0), "push.not-delivered"),
        (document(uplink="renamed"), None),
        (document(uplink="renamed", connected=False), "push.not-delivered"),
        (document(uplink=None), "push.not-delivered"),
        ({**document(), "links": {}}, None),
    ],
)
def test_what_proves_a_configuration(now, code):
    """Delivered since, nothing dead; what is not configured any more is not missed."""
    before = ("bus/meter",), ("province",), "province"
    found = probation.trouble(before, {"province": 1}, now)
    assert (found and found[0]) == code


def test_an_uplink_that_began_to_count_anew_has_delivered():
    """It was made again with its new settings."""
    assert probation.trouble(((), (), "province"), {"province": 9}, document(acknowledged=2)) is None


def test_a_state_is_read_for_what_lives():
    """Names of devices with their links, of uplinks, and their sums."""
    assert probation.alive(document()) == ("bus/meter",)
    assert probation.connected(document()) == ("province",)
    assert probation.acknowledged(document()) == {"province": 2}
