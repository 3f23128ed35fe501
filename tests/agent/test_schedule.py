"""The schedule: absolute ticks, earliest deadline first."""

from agent.schedule import Schedule, Tick, next_seal_ns

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


def test_a_seal_waits_for_what_the_ticks_of_its_moment_bring() -> None:
    """Polls begin on the grid; a seal on the grid itself would keep their answers for a whole interval."""
    second, lag = 10**9, 10**8
    assert [next_seal_ns(now, second) for now in (0, lag - 1, lag, second, second + lag)] == [
        lag,
        lag,
        second + lag,
        second + lag,
        2 * second + lag,
    ]
    assert next_seal_ns(7 * 60 * second, 60 * second) == 7 * 60 * second + lag
    assert next_seal_ns(0, second // 20) == second // 200
