"""What is given back to the machine."""

import ctypes
import subprocess
import sys

import pytest

FREED_AND_PINNED = """
from pathlib import Path
from agent.machine import give_back

def resident_kb():
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("VmRSS"))

held = [bytearray(2000) for _ in range(20_000)]
del held[:-1]  # the last one keeps the end of the heap, so that nothing goes back by itself
before = resident_kb()
give_back()
print(before - resident_kb())
"""


@pytest.mark.skipif(not hasattr(ctypes.CDLL(None), "malloc_trim"), reason="needs glibc")
def test_freed_memory_goes_back_to_the_kernel() -> None:
    """Forty megabytes in small pieces; what reading a large file took is of this kind."""
    done = subprocess.run([sys.executable, "-c", FREED_AND_PINNED], capture_output=True, text=True, check=True)
    assert int(done.stdout) > 20_000
