"""The verdict's arithmetic."""

from agent.demo.tally import NS_PER_S, Kill, tally, tally_all
from drivers.simulated.served import Served

S = NS_PER_S


def served(*seconds: int) -> list[Served]:
    """Answers number 1, 2, ... at these seconds."""
    return [Served(number, second * S) for number, second in enumerate(seconds, 1)]


def test_what_was_served_and_delivered_is_not_lost() -> None:
    """The plain case."""
    result = tally(served(1, 2, 3), {1, 2, 3}, {1, 2, 3}, None)
    assert (result.produced, result.stored, result.delivered, result.lost, result.unsealed_at_kill) == (3, 3, 3, 0, 0)


def test_what_is_stored_but_not_delivered_is_lost() -> None:
    """A kill explains only what never reached the store."""
    assert tally(served(1, 2), {1, 2}, {1}, Kill(2 * S, S)).lost == 1


def test_what_the_killed_agent_held_is_counted_apart() -> None:
    """Within the bound before the kill, what is neither stored nor delivered was unsealed."""
    result = tally(served(1, 8, 9), {1}, {1}, Kill(9 * S, 2 * S))
    assert (result.lost, result.unsealed_at_kill) == (0, 2)


def test_outside_the_bound_nothing_is_explained_by_the_kill() -> None:
    """An older hole, or one after the kill, is lost."""
    assert tally(served(1, 20), set(), set(), Kill(9 * S, 2 * S)).lost == 2


def test_an_instrument_of_which_nothing_arrived_has_lost_everything() -> None:
    """A missing device is not overlooked."""
    assert tally_all({"scale": served(1, 2)}, {}, {}, None)["scale"].lost == 2
