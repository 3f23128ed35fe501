"""The nominal load under a profiler: 10 Modbus TCP devices of 100 registers at 1 s, durable, signed, TLS, 1 s seal.

`PYTHONPATH=tests python -m speed.nominal SECONDS FILE [--every 1s]` leaves in FILE a cProfile of the event loop's
thread. What the load costs is measured by `speed.bench`, without a profiler.
"""

import argparse
import asyncio
import cProfile
import sys
import tempfile
from pathlib import Path

from speed.site import Load, links_of, registers, site, station

from agent import service


async def profiled(seconds: float, every: str, file: Path) -> None:
    """Run the load for so long, the service within the profiler."""
    load = Load(every=every)
    with tempfile.TemporaryDirectory() as folder, registers(load.devices) as ports:
        command = ("-m", "speed.nominal", "--serve", str(file))
        async with (
            site(Path(folder)) as around,
            station(around, "station-1", links_of(load, ports), command=command) as running,
        ):
            await running.until_measuring()
            await asyncio.sleep(seconds)


def serve(file: str, config: str) -> int:
    """Be the service, profiled."""
    profile = cProfile.Profile()
    try:
        return profile.runcall(service.main, ["-c", config])
    finally:
        profile.dump_stats(file)


if __name__ == "__main__":
    if sys.argv[1] == "--serve":
        sys.exit(serve(sys.argv[2], sys.argv[3]))
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("seconds", type=float)
    parser.add_argument("file", type=Path)
    parser.add_argument("--every", default="1s", help="the interval of every device")
    options = parser.parse_args()
    asyncio.run(profiled(options.seconds, options.every, options.file.absolute()))
