"""The machine beside every figure: how fast it is right now, and what the kernel says a process has spent.

What is always true here:

- The calibration is a fixed loop in pure Python, timed before and after each run: a figure taken while the machine was
  busy with something else stands beside a slow calibration, and can be told from a slow program.
- CPU is read from `schedstat`, in nanoseconds, over all threads alive: ticks of 10 ms would hide half a percent.
- Bytes written are those the kernel sent to the device for the process (`write_bytes` of `/proc/PID/io`).
"""

import os
import subprocess
import sys
import time
from pathlib import Path
from typing import NamedTuple

from ports import quiet_port

LOOP = 400_000
TESTS = Path(__file__).parents[1]


class Spent(NamedTuple):
    """What a process has used so far: seconds of CPU, kilobytes resident, bytes written, and when that was read."""

    cpu_s: float
    rss_kb: int
    written: int
    at_s: float


def spent(pid: int) -> Spent:
    """Ask the kernel about a process."""
    cpu_ns = sum(int(file.read_text().split()[0]) for file in Path(f"/proc/{pid}/task").glob("*/schedstat"))
    status = dict(line.split(":", 1) for line in Path(f"/proc/{pid}/status").read_text().splitlines())
    written = dict(line.split(": ") for line in Path(f"/proc/{pid}/io").read_text().splitlines())["write_bytes"]
    return Spent(cpu_ns / 1e9, int(status["VmRSS"].split()[0]), int(written), time.monotonic())


def calibrate_ms() -> float:
    """Time the fixed loop."""
    began_s = time.perf_counter()
    total = 0
    for number in range(LOOP):
        total = (total * 31 + number) % 65521
    return 1e3 * (time.perf_counter() - began_s)


def free_ports(count: int) -> list[int]:
    """Find free ports that no outgoing connection takes."""
    ports: set[int] = set()
    while len(ports) < count:
        ports.add(quiet_port())
    return list(ports)


def python(*arguments: str, errors: Path | None = None) -> subprocess.Popen[bytes]:
    """Start a process of this interpreter that finds the modules of `tests`; what it says goes to `errors`.

    It keeps compiled modules, as an installed package has them, whatever this process was told.
    """
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join((str(TESTS), str(TESTS.parent)))}
    environment.pop("PYTHONDONTWRITEBYTECODE", None)
    with Path(errors or os.devnull).open("ab") as sink:
        return subprocess.Popen([sys.executable, *arguments], stdout=sink, stderr=sink, env=environment)


def stop(process: subprocess.Popen[bytes], patience_s: float = 60) -> None:
    """Ask a process to end, and make it end."""
    process.terminate()
    try:
        process.wait(patience_s)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
