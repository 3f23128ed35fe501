"""What is looked at now and then is looked at together."""

import asyncio

from agent.beat import Alarm, beat, next_beat_s


def test_beats_fall_on_whole_multiples() -> None:
    """So beats of two and of five seconds meet every ten."""
    assert [next_beat_s(now_s, 5) for now_s in (0, 4.9, 5, 7.25)] == [5, 5, 10, 10]


async def test_those_who_beat_alike_are_woken_together() -> None:
    """Whenever they began."""
    loop = asyncio.get_running_loop()
    woken: list[float] = []

    async def look(after_s: float) -> None:
        await asyncio.sleep(after_s)
        await beat(0.2)
        woken.append(loop.time())

    await asyncio.sleep(next_beat_s(loop.time(), 0.2) - loop.time())
    await asyncio.gather(look(0.01), look(0.05), look(0.1))
    assert len({round(one / 0.2) for one in woken}) == 1


async def test_one_timer_wakes_all_who_wait_for_a_moment() -> None:
    """And each of them may be woken before by somebody else."""
    alarm = Alarm()
    loop = asyncio.get_running_loop()
    early, late, other = alarm.at(1, 0.05), alarm.at(1, 0.05), alarm.at(2, 0.1)
    assert sum(not timer.cancelled() for timer in loop._scheduled) == 2  # type: ignore[attr-defined]
    early.set_result(None)
    await late
    assert not other.done()
    await other
    again = alarm.at(1, 0.01)
    await asyncio.wait_for(again, 1)


async def test_who_gave_up_waiting_is_not_woken() -> None:
    """Nor does it keep the others from being woken."""
    alarm = Alarm()
    gone, there = alarm.at(1, 0.02), alarm.at(1, 0.02)
    gone.cancel()
    await asyncio.wait_for(there, 1)
