"""The clocks of the tests stand still while the machine does."""

import asyncio
import os
import subprocess
import time

from steady import SteadyLoop, Watch


def freeze(seconds: float) -> "subprocess.Popen[bytes]":
    """Stop this process for so long, a tenth of a second from now."""
    script = f"sleep 0.1; kill -STOP {os.getpid()}; sleep {seconds}; kill -CONT {os.getpid()}"
    return subprocess.Popen(["sh", "-c", script])


async def test_a_time_out_does_not_end_while_the_machine_stands() -> None:
    """What is to answer stood as well."""
    loop = SteadyLoop.running()
    answer = loop.create_future()
    boot_ns = time.clock_gettime_ns(time.CLOCK_BOOTTIME)
    began_s, true_s = loop.time(), time.monotonic()
    with freeze(1.0) as frozen:
        loop.call_later(0.3, answer.set_result, 7)
        async with asyncio.timeout(0.5):
            assert await answer == 7
        while frozen.poll() is None:
            await asyncio.sleep(0.05)
    stood_s = time.monotonic() - true_s - (loop.time() - began_s)
    assert stood_s > 0.5
    now_ns = time.clock_gettime_ns(time.CLOCK_BOOTTIME)
    assert abs(loop.stood_s(boot_ns, now_ns) - stood_s) < 0.2
    assert loop.stood_s(now_ns, now_ns + 10**9) == 0


async def test_what_arrived_meanwhile_is_handled_before_what_ran_out() -> None:
    """A line in a pipe, half a second before the end of the patience for it, and the machine wakes a second later."""
    process = await asyncio.create_subprocess_exec("sh", "-c", "sleep 0.3; echo told", stdout=-1)
    assert process.stdout is not None
    with freeze(1.0):
        assert await asyncio.wait_for(process.stdout.readline(), 0.5) == b"told\n"
    await process.wait()


async def test_the_clock_never_goes_backwards_nor_fast() -> None:
    """Whatever is done between two looks at it."""
    loop = asyncio.get_running_loop()
    began_s, true_s = loop.time(), time.monotonic()
    before_s = began_s
    for pause_s in (0, 0.001, 0.03, 0, 0.06):
        await asyncio.sleep(pause_s)
        time.sleep(pause_s)
        assert loop.time() >= before_s
        before_s = loop.time()
    assert before_s - began_s <= time.monotonic() - true_s + 0.001


async def test_what_the_loop_computes_is_no_stop() -> None:
    """A callback that works for long is late by the fault of whoever wrote it."""
    loop = SteadyLoop.running()
    began_s = loop.time()
    end_s = time.thread_time() + 0.3
    while time.thread_time() < end_s:
        pass
    assert loop.time() - began_s >= 0.3


async def test_a_thread_may_look_at_it_while_the_loop_waits() -> None:
    """Which is no stop."""
    loop = asyncio.get_running_loop()
    began_s = loop.time()
    looking = asyncio.create_task(asyncio.to_thread(lambda: (time.sleep(0.1), loop.time())[1]))
    await asyncio.sleep(0.3)
    assert began_s < await looking
    assert loop.time() - began_s >= 0.29


def test_a_watch_stands_with_the_machine(tmp_path) -> None:
    """It counts what went on only."""
    with Watch(tmp_path) as watch, freeze(1.0) as frozen:
        true_s = time.monotonic()
        frozen.wait()
        true_s = time.monotonic() - true_s
    assert true_s > 1
    assert watch.seconds < 0.6
