"""Instructions of the pure stages, counted by callgrind: they do not vary with the machine's mood.

`instructions.json` holds what each stage took when it was last looked at, by version of Python. A stage that takes a
fifth more is a regression to explain, or to accept by writing the file anew: `python tests/speed/test_instructions.py`.
"""

import json
import os
import platform
import re
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

HERE = Path(__file__).parent
EXPECTED = HERE / "instructions.json"
CALLS = 5
MARGIN = 1.2
VERSION = ".".join(platform.python_version_tuple()[:2]) + "-" + platform.machine()
STAGES = ("decode", "gather", "encode", "compress", "sign", "seal", "read", "wire")


def counted() -> dict[str, int]:
    """Give the instructions of one call of each stage; none where this Python shows no functions to valgrind.

    Raises CalledProcessError.
    """
    with tempfile.TemporaryDirectory() as folder:
        command = ["valgrind", "--tool=callgrind", "--toggle-collect=functools_reduce", "--dump-after=functools_reduce"]
        command += [f"--callgrind-out-file={folder}/out", sys.executable, "-m", "speed.pure", str(CALLS)]
        path = os.pathsep.join((str(HERE.parent), str(HERE.parents[1])))
        quiet = {name: value for name, value in os.environ.items() if not name.startswith("COV")}  # nobody counts lines
        environment = {**quiet, "PYTHONHASHSEED": "0", "PYTHONPATH": path}
        subprocess.run(command, env=environment, capture_output=True, check=True, timeout=600)
        dumps = [Path(folder) / f"out.{number}" for number in range(1, len(STAGES) + 1)]
        if not dumps[0].exists():
            return {}
        totals = [re.search(r"^totals: (\d+)$", dump.read_text(), re.MULTILINE) for dump in dumps]
    return {stage: int(total[1]) // CALLS for stage, total in zip(STAGES, totals, strict=True) if total}


def _why_not() -> str:
    if shutil.which("valgrind") is None:
        return "needs valgrind"
    if VERSION not in json.loads(EXPECTED.read_text()):
        return f"no counts are kept for {VERSION}"
    return ""


@pytest.mark.slow
@pytest.mark.skipif(bool(_why_not()), reason=_why_not() or "none")
@pytest.mark.timeout(600)
def test_no_pure_stage_takes_a_fifth_more_instructions_than_it_did() -> None:
    """Of one second of the nominal load."""
    expected, found = json.loads(EXPECTED.read_text())[VERSION], counted()
    if not found:
        pytest.skip("this Python was built without the names by which valgrind counts")
    assert found.keys() == expected.keys()
    assert {stage: count for stage, count in found.items() if count > MARGIN * expected[stage]} == {}


if __name__ == "__main__":
    known = json.loads(EXPECTED.read_text()) if EXPECTED.exists() else {}
    EXPECTED.write_text(json.dumps({**known, VERSION: counted()}, indent=1) + "\n")
    print(EXPECTED.read_text())
