"""`check --connect`: real instruments on sockets and a pty, some of them dead; and the service in the way."""

import asyncio
import json
import time
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from rig import until
from running import Running

from agent.cli import check as checking
from agent.cli import connect as instruments
from agent.cli.check import check
from agent.connect import engineering, look
from agent.errors import Exit
from agent.owner import in_daemon
from buffer.frame import Column
from drivers.simulated.driver import SimulatedDriver
from drivers.simulated.modbus_tcp import ModbusTcpInstrument
from drivers.simulated.opcua_server import OpcUaInstrument
from drivers.simulated.replay import read_recording
from drivers.simulated.serial_instrument import SerialInstrument

DATA = Path(__file__).parents[1] / "data"


@pytest.fixture
async def plant() -> AsyncIterator[ModbusTcpInstrument]:
    """Give a Modbus TCP instrument."""
    instrument = ModbusTcpInstrument(read_recording(DATA / "wwtp.csv"))
    await instrument.start()
    yield instrument
    await instrument.stop()


def written(folder: Path, links: dict, **more: object) -> Path:
    """Write a configuration."""
    file = folder / "gateway.yaml"
    head = {"gateway": {"id": "a-1", "language": "en"}, "buffer": {"path": "data/b.db"}}
    file.write_text(json.dumps({**head, **more, "links": links}, indent=1))
    return file


async def connected(file: Path, capsys, *, as_json: bool = True, language: str = "en"):
    """Run the command in a thread, as it runs a loop of its own; give its code and what it said."""
    code = await in_daemon("check", lambda: check(file, connect=True, as_json=as_json, language=language))
    said = capsys.readouterr().out
    return code, json.loads(said)["connect"] if as_json else said


async def test_every_device_is_told_with_its_time_and_its_first_values(tmp_path, capsys, plant) -> None:
    """Modbus over TCP and an instrument on a serial line that speaks by itself, beside each other."""
    rows = iter(lambda: {"level": 2.5, "flow": 7.0}, None)
    speaker = SerialInstrument(rows, ("level", "flow"), time.monotonic_ns, interval_s=0.1)
    await speaker.start()
    gauge = {"line": speaker.pattern, "points": {"level": {"unit": "m", "scale": 0.1}, "flow": {}}}
    scale = {"driver": "serial", "serial": {"port": speaker.port}, "devices": {"gauge": gauge}}
    file = written(tmp_path, {"plant": plant.link("outfall"), "scale": scale})
    code, said = await connected(file, capsys)
    await speaker.stop()
    assert code == Exit.OK
    outfall, heard = said["devices"]
    assert (outfall["link"], outfall["device"], outfall["answers"]) == ("plant", "outfall", True)
    assert 0 <= outfall["seconds"] < 60
    assert len(outfall["values"]) == len(plant.points())
    assert all(value["status"] == "Good" for value in outfall["values"])
    assert [(value["point"], value["value"], value["unit"]) for value in heard["values"]] == [
        ("level", "0.25", "m"),
        ("flow", "7.0", ""),
    ]


async def test_what_does_not_answer_is_told_with_the_reason_and_its_cure(tmp_path, capsys, plant) -> None:
    """A dead port, a unit that is not there, and one that does: each for itself; 69."""
    dead = {"driver": "modbus", "host": "127.0.0.1", "port": 1, "devices": plant.link("gone")["devices"]}
    bus = plant.link("outfall")
    bus["timeout"] = "300ms"
    bus["devices"]["ghost"] = {**bus["devices"]["outfall"], "unit": 9}
    code, said = await connected(written(tmp_path, {"bus": bus, "dead": dead}), capsys, as_json=False)
    assert code == Exit.UNAVAILABLE
    assert "bus/outfall answers in" in said
    assert "bus/ghost does not answer\n" in said
    assert "dead/gone does not answer\n" in said
    assert "127.0.0.1" in said.split("dead/gone")[1]
    assert said.rstrip().endswith("1 of 3 devices answer.")
    _, said = await connected(tmp_path / "gateway.yaml", capsys, as_json=False, language="vi")
    assert "bus/ghost không trả lời\n" in said
    assert said.rstrip().endswith("1 trên 3 thiết bị trả lời.")


async def test_a_server_that_tells_of_changes_is_heard(tmp_path, capsys) -> None:
    """OPC UA: subscribed to, heard, and left."""
    server = OpcUaInstrument(read_recording(DATA / "skab.csv"), period_s=0.2)
    await server.start()
    code, said = await connected(written(tmp_path, {"plc": server.link("line", "100ms")}), capsys)
    await server.stop()
    assert code == Exit.OK
    assert len(said["devices"][0]["values"]) >= 5


async def test_nothing_takes_longer_than_it_was_given(tmp_path) -> None:
    """A peer that takes the connection and says nothing; the rest of its link had no time left."""

    async def hold(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read()
        writer.close()

    server = await asyncio.start_server(hold, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    device = {"every": "1s", "points": {"a": {"input": 0}}}
    devices = {f"d{number}": {"unit": number, **device} for number in range(1, 9)}
    link = {"driver": "modbus", "host": "127.0.0.1", "port": port, "timeout": "400ms", "devices": devices}
    settings = checking.read(written(tmp_path, {"slow": link}), checking.SystemClock())
    began = asyncio.get_running_loop().time()
    looks = await look(settings.instruments, 1.0)
    assert asyncio.get_running_loop().time() - began < 5
    server.close()
    assert not any(one.answers for one in looks)
    assert looks[0].trouble is not None
    assert looks[0].trouble[0] != "agent.connect-no-time"
    assert looks[-1].trouble == ("agent.connect-no-time", {"seconds": 1.0})


async def test_a_drivers_bug_costs_its_own_link_alone(tmp_path, capsys, plant, monkeypatch) -> None:
    """And is called what it is; the port is let go of."""
    closed = []

    async def fail(self, group):
        raise ZeroDivisionError("oops")

    async def close(self):
        closed.append(self.name)
        raise RuntimeError("again")

    monkeypatch.setattr(SimulatedDriver, "poll", fail)
    monkeypatch.setattr(SimulatedDriver, "close", close)
    waves = {"driver": "simulated", "devices": {"tank": {"every": "1s", "points": {"level": {}}}}}
    code, said = await connected(written(tmp_path, {"plant": plant.link("outfall"), "waves": waves}), capsys)
    assert code == Exit.UNAVAILABLE
    assert [device["answers"] for device in said["devices"]] == [True, False]
    assert said["devices"][1]["error"]["code"] == "drivers.bug"
    assert closed == ["waves"]


async def test_while_the_service_runs_it_is_asked_and_not_disturbed(tmp_path, capsys, plant) -> None:
    """The very configuration: what it knows. Another: 75, and nothing is opened."""
    file = written(tmp_path, {"plant": plant.link("outfall", "100ms")}, buffer={"path": "data/buffer.db"})
    service = Running(file)
    try:
        await asyncio.to_thread(service.status)
        await until(lambda: len(plant.served) > 3)
        code, said = await connected(file, capsys)
        assert (code, said["through"]) == (Exit.OK, "service")
        assert [(device["device"], device["answers"]) for device in said["devices"]] == [("outfall", True)]
        assert len(plant._connections) == 1
        file.write_text(file.read_text() + "\n")
        assert await in_daemon("check", lambda: check(file, connect=True)) == Exit.BUSY
        assert "trambien reload" in capsys.readouterr().err
        assert len(plant._connections) == 1
    finally:
        await asyncio.to_thread(service.leave)


def test_what_the_service_knows_of_a_dead_link_is_told():
    """With the link's trouble where there is one."""
    dead = {"alive": None, "error": None}
    state = {"links": {"bus": {"up": False, "error": {"code": "modbus.refused"}, "devices": {"d": dead}}}}
    assert [one["error"] for one in instruments._of_service(state, ["bus"])] == [{"code": "modbus.refused"}]
    state["links"]["bus"] = {"up": True, "error": None, "devices": {"d": dead}}
    assert [one["error"]["code"] for one in instruments._of_service(state, ["bus"])] == ["agent.connect-no-word"]


@pytest.mark.parametrize(
    ("raw", "scale", "offset", "text"),
    [
        (215, "0.1", "", "21.5"),
        (215, "0.1", "-20", "1.5"),
        (7, "", "", "7"),
        (1000, "10", "", "10000"),
        (0.1, "10", "", "1"),
        (float("inf"), "2", "", "inf"),
        (True, "", "", "True"),
        ("ab", "", "", "ab"),
        (b"\x01", "", "", "01"),
        (None, "2", "", None),
    ],
)
def test_a_value_is_shown_as_it_is_measured(raw, scale, offset, text):
    """Exactly; what is no number as it came."""
    assert engineering(Column("c", "float64", scale=scale, offset=offset), raw) == text
