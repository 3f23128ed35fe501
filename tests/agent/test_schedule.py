"""The schedule: absolute ticks, earliest deadline first."""

import contextlib

from agent.schedule import Schedule, Seals, Tick

S = 10**9


def serve(schedule: Schedule, now_ns: int, until_ns: int | None = None) -> tuple[Tick | None, int]:
    """Take a tick now and finish it at `until_ns`."""
    tick = schedule.take(now_ns)
    return tick, schedule.done(tick, until_ns or now_ns) if tick else 0


def test_the_first_tick_is_now_and_the_others_stand_at_whole_multiples() -> None:
    """A group is polled at once, then on the grid of boot time."""
    schedule = Schedule([5 * S], 12 * S)
    assert serve(schedule, 12 * S) == (Tick(0, 12 * S), 0)
    assert schedule.next_due_ns() == 15 * S
    serve(schedule, 15 * S)
    assert schedule.next_due_ns() == 20 * S


def test_nothing_is_taken_before_it_is_due() -> None:
    """`take` gives None while every tick lies ahead."""
    schedule = Schedule([S], 0)
    serve(schedule, 0)
    assert schedule.take(S - 1) is None
    assert schedule.take(S) == Tick(0, S)


def test_the_earliest_deadline_goes_first() -> None:
    """Of a slow and a fast group due together, the fast one has the earlier deadline."""
    schedule = Schedule([60 * S, 1 * S], 0)
    assert schedule.take(0) == Tick(1, 0)
    assert schedule.take(0) == Tick(0, 0)


def test_a_late_tick_is_served_and_the_ones_behind_it_are_counted() -> None:
    """A poll that lasts past later deadlines misses those ticks; they are not replayed."""
    schedule = Schedule([S], 0)
    serve(schedule, 0)
    tick = schedule.take(S)
    assert tick is not None
    assert schedule.done(tick, 4 * S + S // 2) == 2
    assert schedule.next_due_ns() == 4 * S


def test_a_tick_that_is_merely_late_is_not_missed() -> None:
    """Until its own deadline has passed, the next tick can still be served."""
    schedule = Schedule([S], 0)
    serve(schedule, 0)
    tick = schedule.take(S)
    assert tick is not None
    assert schedule.done(tick, 2 * S + S // 2) == 0
    assert schedule.next_due_ns() == 2 * S


def test_a_tick_put_behind_is_taken_after_all_that_are_due_and_only_once():
    """So that the probe of a dead instrument costs no other its place, and two of them do not wait for each other."""
    schedule = Schedule([10, 10, 10], 0)
    first = schedule.take(0)
    assert schedule.put_behind(first)
    second = schedule.take(0)
    assert schedule.put_behind(second)
    assert [schedule.take(0).number] == [2]
    again = schedule.take(0)
    assert again == first
    assert not schedule.put_behind(again)
    schedule.done(again, 1)
    assert schedule.take(1) == second
    assert not schedule.put_behind(second)


def test_a_tick_that_is_alone_is_not_put_behind():
    """There is nothing to wait for."""
    schedule = Schedule([10], 0)
    assert not schedule.put_behind(schedule.take(0))


class Sealing:
    """Seals at a time of our own."""

    def __init__(self, every_ns: int, now_ns: int = 0) -> None:
        self.now_ns = now_ns
        self.due: list[int] = []
        self.seals = Seals(every_ns, lambda: self.now_ns, lambda: self.due.append(self.now_ns))

    def poll(self, from_ns: int, to_ns: int) -> None:
        """Poll once."""
        self.now_ns = from_ns
        with self.seals:
            self.now_ns = to_ns


def test_a_seal_is_due_when_the_last_poll_of_its_moment_has_ended() -> None:
    """Polls begin on the grid: what they bring is sealed at once, and waits for no timer."""
    sealing = Sealing(S)
    sealing.now_ns = S
    with sealing.seals:
        sealing.poll(S, S + 5)
        assert sealing.due == []
        sealing.now_ns = S + 9
    assert sealing.due == [S + 9]


def test_a_poll_before_the_moment_of_a_seal_makes_none_due() -> None:
    """Four of five polls at one second, sealed at five."""
    sealing = Sealing(5 * S)
    for second in range(1, 6):
        sealing.poll(second * S, second * S + 7)
    assert sealing.due == [5 * S + 7]


def test_there_is_one_seal_at_each_place_of_the_grid() -> None:
    """What a poll brings after it waits for the next."""
    sealing = Sealing(S)
    sealing.poll(S, S + 5)
    sealing.seals.sealed()
    sealing.poll(S + 6, S + 8)
    assert sealing.due == [S + 5]
    sealing.poll(2 * S, 2 * S + 1)
    assert sealing.due == [S + 5, 2 * S + 1]


def test_a_poll_that_does_not_end_holds_a_seal_up_for_a_tenth_of_a_second_at_most() -> None:
    """Or a tenth of the interval, where that is less."""
    assert Sealing(S, 3 * S + 1).seals.latest_ns == 4 * S + S // 10
    assert Sealing(60 * S).seals.latest_ns == 60 * S + S // 10
    assert Sealing(S // 20).seals.latest_ns == S // 20 + S // 200


def test_a_poll_that_fails_or_is_cancelled_has_ended_too() -> None:
    """Nothing counts as under way for ever."""
    sealing = Sealing(S)
    sealing.now_ns = S
    with contextlib.suppress(RuntimeError), sealing.seals:
        raise RuntimeError
    assert sealing.due == [S]
