"""Probing: a silent device costs the others next to nothing."""

from itertools import pairwise

from agent.probing import PATIENCE, SHARE, Probing

S = 10**9
TIMEOUT = S


def silence(probing: Probing, device: str, times: int = PATIENCE, now_ns: int = 0) -> list[bool]:
    """Let a device stay silent so many times."""
    return [probing.silent(device, now_ns, S) for _ in range(times)]


def test_a_device_is_dead_after_three_silences_and_that_is_said_once() -> None:
    """The moment of death is reported by the poll that made it certain."""
    probing = Probing(("a", "b"), TIMEOUT)
    assert silence(probing, "a", 5) == [False, False, True, False, False]
    assert not probing.alive("a")


def test_one_answer_brings_a_device_back_at_once() -> None:
    """Full rejoin on the first good answer; that it was dead is said once."""
    probing = Probing(("a", "b"), TIMEOUT)
    silence(probing, "a")
    assert probing.answered("a")
    assert not probing.answered("a")
    assert probing.may_ask("a", 0)


def test_the_probes_of_a_dead_device_take_at_most_their_share() -> None:
    """The pause between probes grows until a time-out is half a percent of it."""
    probing = Probing(("a", "b"), TIMEOUT)
    now_ns, asked_ns = 0, []
    while now_ns < 3000 * S:
        if probing.may_ask("a", now_ns):
            asked_ns.append(now_ns)
            probing.silent("a", now_ns, S)
        now_ns += S
    pauses = [later - earlier for earlier, later in pairwise(asked_ns)]
    assert max(pauses) == TIMEOUT / SHARE
    assert pauses[-1] == TIMEOUT / SHARE


def test_two_dead_devices_share_the_bound() -> None:
    """Together they take no more than one would: each is probed half as often."""
    probing = Probing(("a", "b", "c"), TIMEOUT)
    silence(probing, "a", 30)
    silence(probing, "b", 30)
    assert not probing.may_ask("b", int(2 * TIMEOUT / SHARE) - 1)
    assert probing.may_ask("b", int(2 * TIMEOUT / SHARE))


def test_alone_on_its_link_a_dead_device_is_asked_at_every_tick() -> None:
    """There is nobody to slow, and it should be back as soon as it answers."""
    probing = Probing(("a",), TIMEOUT)
    silence(probing, "a", 30)
    assert probing.may_ask("a", 1)
