"""The service as it is, but that it notes when each block was acknowledged: `python -m speed.settled CONFIG OUT`.

One call and one append a block, which is nothing beside the block. OUT gets a line a block when the service ends:
stream, position, boot time in nanoseconds.
"""

import sys
import time
from pathlib import Path

from agent import service
from agent.recorder import Recorder


def main(config: str, out: Path) -> int:
    """Run the service."""
    noted: list[tuple[str, int, int]] = []
    settle = Recorder.settle

    def noting(self: Recorder, uplink: str, stream: str, position: int) -> None:
        noted.append((stream, position, time.clock_gettime_ns(time.CLOCK_BOOTTIME)))
        settle(self, uplink, stream, position)

    Recorder.settle = noting  # type: ignore[method-assign]
    try:
        return service.main(["-c", config])
    finally:
        out.write_text("".join(f"{stream} {position} {t_ns}\n" for stream, position, t_ns in noted))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1], Path(sys.argv[2])))
