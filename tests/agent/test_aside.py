"""Work that is done in a process of its own: what comes back from it, and what becomes of one that does not answer."""

import pickle
import subprocess
import sys
import time
from pathlib import Path

import pytest

from agent import aside
from agent.aside import Worker
from agent.errors import AsideFailed
from agent.reload import FIXED
from config.errors import ConfigFaults, Place
from config.model import Number, Secret
from config.trust import TrustInvalid

FILE = """
gateway: {id: a-1}
buffer: {limit: 2MB}
links:
  waves: {driver: simulated, devices: {tank: {every: 1s, points: {level: {scale: 0.10}}}}}
"""


@pytest.fixture
def module(tmp_path, monkeypatch):
    """Let a worker run some code instead of ours."""

    def write(code: str) -> str:
        (tmp_path / "instead.py").write_text(code)
        monkeypatch.setenv("PYTHONPATH", str(tmp_path))
        return "instead"

    return write


def failure(worker: Worker) -> AsideFailed:
    """Give how asking fails."""
    with worker, pytest.raises(AsideFailed) as caught:
        worker.ask("read-trust", b"{}")
    return caught.value


def test_a_configuration_comes_back_as_records_with_the_places_asked_for(tmp_path):
    """Also the exact text of its numbers; of all other places only the beginning of the file is left."""
    file = tmp_path / "gateway.yaml"
    file.write_text(FILE)
    with Worker("read") as worker:
        read = worker.ask("read", file, None, FIXED)
    loaded = read.loaded
    assert loaded.config.links["waves"].devices["tank"].points["level"].scale == "0.10"
    assert (loaded.config.buffer.limit, loaded.config.buffer.path) == (2_000_000, "/var/lib/trambien/buffer.db")
    assert (loaded.spot(("buffer", "limit")).line, loaded.spot(("gateway", "id")).col) == (3, 15)
    assert loaded.spot(("links", "waves")) == Place(file, 1, 1)
    assert read.places == {"simulated": "drivers.simulated.driver:SimulatedDriver"}
    assert [warning.code for warning in read.warnings] == ["config.limit-short"]


def test_faults_come_back_in_the_order_of_the_file(tmp_path):
    """All of them, those of the main file first."""
    file = tmp_path / "station.yaml"
    file.write_text(FILE.replace("2MB", "2 apples").replace("1s", "x"))
    (tmp_path / "links.d").mkdir()
    (tmp_path / "links.d" / "a.yaml").write_text("links: 5\n")
    with pytest.raises(ConfigFaults) as caught:
        aside.ask("read", file, None, ())
    told = [(fault.code, fault.file.name, fault.line) for fault in caught.value.faults]
    assert told == [
        ("config.bad-size", "station.yaml", 3),
        ("config.bad-duration", "station.yaml", 5),
        ("config.not-mapping", "a.yaml", 1),
    ]


def test_one_helper_does_several_tasks(tmp_path):
    """Errors of a task are answers: it goes on."""
    with Worker() as worker:
        with pytest.raises(TrustInvalid):
            worker.ask("read-trust", b"{}")
        assert worker.ask("touched", b"a: {b: 1}", b"a: {b: 2}", ("a.b", "c")) == ("a.b",)
        worker.ask("make-buffer", tmp_path / "buffer.db")
        worker.ask("make-buffer", Path("/proc/none/buffer.db"))
    assert (tmp_path / "buffer.db").stat().st_size > 0


@pytest.mark.parametrize(
    "code",
    [
        "import os; os.abort()",
        "import sys; sys.exit(3)",
        "print('hello')",
        "import sys, pickle; d = pickle.dumps(5); sys.stdout.buffer.write(len(d).to_bytes(8, 'big') + d)",
        "import sys; sys.stdout.buffer.write((19).to_bytes(8, 'big') + b'cnone.such\\nThing\\n.')",
        "import sys; sys.stdout.buffer.write((1 << 40).to_bytes(8, 'big') + bytes(99))",
        r"import sys; sys.stdout.buffer.write((9).to_bytes(8, 'big') + b'\x8e' + b'\xff' * 8)",
        r"import sys; sys.stdout.buffer.write((7).to_bytes(8, 'big') + b'Nr\xff\xff\xff\xff.')",
        "import sys; sys.stdin.close(); sys.stdout.close()",
    ],
)
def test_one_that_dies_or_talks_nonsense_is_an_error(module, code):
    """Whatever it says, nothing else is raised."""
    assert failure(Worker(module=module(code))).code == "agent.aside-died"


def test_one_that_does_not_answer_in_time_is_killed(module):
    """What it waits for may never come."""
    began = time.monotonic()
    worker = Worker(module=module("import time; time.sleep(60)"), limit_s=0.3)
    assert failure(worker).code == "agent.aside-late"
    assert worker._process is not None
    assert worker._process.returncode == -9
    assert time.monotonic() - began < 30


def test_one_that_does_not_listen_is_killed_too(module):
    """A question may be longer than a pipe is wide."""
    worker = Worker(module=module("import time; time.sleep(60)"), limit_s=0.5)
    with worker, pytest.raises(AsideFailed, match=r"agent\.aside-late"):
        worker.ask("read-trust", bytes(1 << 20))


def test_one_that_cannot_be_started_is_an_error(monkeypatch):
    """A machine without room for another process has not lost the station."""
    monkeypatch.setattr(sys, "executable", "/no/such/python")
    assert failure(Worker()).code == "agent.aside-died"


def test_one_that_stays_after_its_work_is_killed(module, monkeypatch):
    """Nobody waits for it longer."""
    monkeypatch.setattr(aside, "ENDS_S", 0.2)
    worker = Worker(module=module("import time; time.sleep(60)"))
    worker.close()
    assert worker._process is not None
    assert worker._process.returncode == -9


def test_a_task_that_nobody_knows_ends_it():
    """Only what stands in the table is done."""
    with Worker() as worker, pytest.raises(AsideFailed, match=r"agent\.aside-died"):
        worker.ask("os:system", "true")


def test_what_a_library_prints_is_no_answer(tmp_path, monkeypatch):
    """It goes where the log goes."""
    (tmp_path / "loud.py").write_text("import os, agent.judging as j\nj.TASKS['say'] = 'loud2:say'\nj.main([])\n")
    (tmp_path / "loud2.py").write_text(
        "import os\ndef say():\n    print('x', flush=True); os.write(1, b'y'); return 7\n"
    )
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    with Worker(module="loud") as worker:
        assert worker.ask("say") == 7


def alive(pid: str) -> bool:
    """Say whether a process is there, and not only waits to be asked how it ended."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def test_it_ends_with_the_service_and_leaves_no_core():
    """Secrets pass through it."""
    code = (
        "import os, signal, sys; from agent.aside import Worker; worker = Worker(); "
        "worker.ask('touched', b'', b'a: 1', ('a',)); pid = worker._process.pid; "
        "print(pid, open(f'/proc/{pid}/limits').read().split('Max core file size')[1].split()[0], flush=True); "
        "os.kill(os.getpid(), signal.SIGKILL)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False, timeout=60)
    pid, core = done.stdout.split()
    assert core == "1"
    deadline = time.monotonic() + 60
    while alive(pid) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert not alive(pid)


def test_exact_text_and_secrets_survive_the_way():
    """A number is the text it was written in, wherever it is read."""
    number = pickle.loads(pickle.dumps(Number("1e3")))
    assert (number.text, number) == ("1e3", 1000)
    assert pickle.loads(pickle.dumps(Secret("a", "b"))).value == "b"
