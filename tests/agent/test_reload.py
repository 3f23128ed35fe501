"""A change of configuration while the station runs: real instruments on sockets, a real store, a real broker.

Modbus instruments answer over TCP; one link is left alone in every change, and must not notice any.
"""

import asyncio
import json
import os
import signal
import sys
from collections.abc import AsyncIterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from reloading import Station, goes_on, identity, reading
from rig import until
from running import Running
from steady import SteadyLoop

from agent import control
from agent.clock import SystemClock
from agent.errors import Exit
from agent.reload import FIXED, difference
from agent.settings import read_aside
from buffer.errors import BufferUnreadable
from buffer.frame import Event


@pytest.fixture
async def station(tmp_path: Path) -> AsyncIterator[Station]:
    """Run a station that reads two instruments."""
    async with reading(tmp_path) as one:
        yield one


async def test_a_link_that_did_not_change_polls_on_without_a_missed_tick(station: Station) -> None:
    """The same driver, the same poller, the same task; the other link is made anew."""
    before, other = station.untouched("plant"), station.untouched("pump")
    station.document["links"]["pump"]["devices"]["press"]["every"] = "50ms"
    told = await station.reload()
    assert told["ok"] is True
    assert told["links"] == {"gone": ["pump"], "new": ["pump"]}
    await goes_on(station, "plant")
    await goes_on(station, "pump")
    assert all(one is two for one, two in zip(before, station.untouched("plant"), strict=True))
    assert not any(one is two for one, two in zip(other, station.untouched("pump"), strict=True))
    assert other[2].done()
    assert station.device("plant")["missed"] <= SteadyLoop.running().ticks(0.1)
    assert len(station.plant._connections) == len(station.pump._connections) == 1


async def test_every_frame_of_an_untouched_link_is_in_the_chain(station: Station) -> None:
    """Ten changes of the other link: what the instrument served is what was sealed, and the chain is whole."""
    for turn in range(10):
        station.document["links"]["pump"]["devices"]["press"]["every"] = f"{100 + turn}ms"
        assert (await station.reload())["ok"]
    await goes_on(station, "plant")
    await station.leave()
    frames = [frame for payload in station.blocks() for place, some in payload.frames if place == 0 for frame in some]
    assert len(frames) == len(station.plant.served)
    assert all(frame.statuses is None for frame in frames)
    assert station.verdict() == "complete"


async def test_a_link_comes_and_another_goes(station: Station) -> None:
    """With a stream of its own, whose chain begins with the new configuration's digest."""
    comes = station.pump.link("press-2", "100ms")
    comes["devices"]["press-2"]["stream"] = "production"
    del station.document["links"]["pump"]
    station.document["links"]["pump-2"] = comes
    before = station.untouched("plant")
    told = await station.reload()
    assert told["links"] == {"gone": ["pump"], "new": ["pump-2"]}
    await goes_on(station, "pump-2")
    assert set(station.status["links"]) == {"plant", "pump-2", "gateway"}
    assert all(one is two for one, two in zip(before, station.untouched("plant"), strict=True))
    await until(lambda: station.status["streams"]["production"]["readings"] > 10)
    await station.leave()
    start = station.events("production")[0]
    assert (start.type, dict(start.data)["config"].hex()) == ("start", told["config"])
    assert station.verdict("main") == station.verdict("production") == "complete"


async def test_a_reader_that_dies_leaves_what_runs_and_the_next_reload_is_sound(
    station: Station, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whoever asked is told, with an exit code; no instrument is asked less for it."""
    clock = SystemClock()
    station.app._reloader.read = partial(read_aside, station.file, clock=clock, spots=FIXED)
    before = station.untouched("plant")
    with monkeypatch.context() as broken:
        broken.setattr(sys, "executable", "/no/such/python")
        told = await station.asked()
    assert (told["ok"], told["error"], told["exit"]) == (False, "agent.aside-died", Exit.UNAVAILABLE)
    await goes_on(station, "plant")
    assert all(one is two for one, two in zip(before, station.untouched("plant"), strict=True))
    os.mkfifo(station.file.with_name("pipe"))
    station.file.with_name("links.d").mkdir()
    station.file.with_name("pipe").rename(station.file.with_name("links.d") / "a.yaml")
    told = await station.asked()
    assert [fault["code"] for fault in told["faults"]] == ["config.not-regular"]
    (station.file.with_name("links.d") / "a.yaml").unlink()
    station.document["buffer"]["path"] = "elsewhere.db"
    told = await station.reload()
    assert [(fault["code"], fault["line"]) for fault in told["faults"]] == [("agent.needs-restart", 7)]
    station.document["buffer"]["path"] = "data/buffer.db"
    assert (await station.reload())["ok"]
    assert all(one is two for one, two in zip(before, station.untouched("plant"), strict=True)), "records are compared"


async def test_a_change_stands_in_the_logbook_of_every_stream_under_one_id(station: Station) -> None:
    """Of those that go, too: it is their last word."""
    station.document["links"]["pump"]["devices"]["press"]["stream"] = "production"
    first = await station.reload()
    station.document["links"]["pump"]["devices"]["press"]["stream"] = "main"
    second = await station.reload()
    await until(lambda: len(_applied(station, "production")) == 2)
    assert _applied(station, "main") == _applied(station, "production")
    assert [dict(event.data) for event in _applied(station, "main")] == [
        {"config": bytes.fromhex(told["config"]), "before": bytes.fromhex(told["before"])} for told in (first, second)
    ]
    assert station.status["config"] == second["config"]


def _applied(station: Station, stream: str) -> list[Event]:
    return [event for event in station.events(stream) if event.type == "config-applied"]


async def test_what_was_gathered_is_sealed_under_the_catalogue_it_was_gathered_under(station: Station) -> None:
    """No frame meets a catalogue that lacks its layout: every block decodes by what was signed before it."""
    station.document["buffer"]["seal_every"] = "1h"
    assert (await station.reload())["ok"]
    await goes_on(station, "pump")
    del station.document["links"]["pump"]
    assert (await station.reload())["ok"]
    await goes_on(station, "plant")
    await station.leave()
    assert station.verdict() == "complete"
    assert station.status["streams"]["main"]["dropped"] == 0


async def test_how_often_is_sealed_may_change(station: Station) -> None:
    """At once: blocks come slower."""
    station.document["buffer"]["seal_every"] = "1h"
    await station.reload()
    sealed = station.status["streams"]["main"]["sealed"]
    await goes_on(station, "plant")
    await goes_on(station, "plant")
    assert station.status["streams"]["main"]["sealed"] <= sealed + 2


@pytest.mark.parametrize("text", ["links: [", "gateway: {id: station-1}\nlinks: {x: {driver: none}}\n"])
async def test_a_file_with_faults_is_refused_and_the_old_one_runs_on(station: Station, text: str) -> None:
    """Told to who asked, in `status` and in the logbook; the next good one takes it back."""
    before = station.untouched("plant"), station.untouched("pump"), station.status["config"]
    station.write(text)
    told = await station.asked()
    assert told["ok"] is False
    assert told["exit"] == Exit.CONFIG
    assert told["faults"][0]["line"] >= 1
    assert "gateway.yaml:" in told["text"]
    await goes_on(station, "pump")
    assert (station.untouched("plant"), station.untouched("pump"), station.status["config"]) == before
    error = station.status["config_error"]
    assert error["code"] == "agent.reload-refused"
    await until(lambda: any(event.type == "config-refused" for event in station.events()))
    (event,) = (event for event in station.events() if event.type == "config-refused")
    said = dict(event.data)
    assert said["config"] == identity(station.file.read_bytes())
    assert said["running"].hex() == before[2]
    assert said["reason"] == told["faults"][0]["code"]
    assert (await station.reload())["ok"]
    assert station.status["config_error"] is None


@pytest.mark.parametrize(
    ("part", "key", "value"), [("buffer", "path", "else/b.db"), ("gateway", "id", "other"), ("buffer", "keep", "3d")]
)
async def test_what_needs_a_restart_is_refused_with_its_place(
    station: Station, part: str, key: str, value: str
) -> None:
    """All of the change, so that the file and the station never mean different things."""
    station.document[part][key] = value
    del station.document["links"]["pump"]
    told = await station.reload()
    assert [(fault["code"], fault["path"]) for fault in told["faults"]] == [("agent.needs-restart", f"{part}.{key}")]
    assert told["exit"] == Exit.CONFIG
    await goes_on(station, "pump")


async def test_a_buffer_that_cannot_be_read_now_stops_nothing(station: Station, monkeypatch: Any) -> None:
    """What uplinks have acknowledged cannot be learnt, so nothing is changed yet."""

    def fail(*_: object) -> None:
        raise BufferUnreadable(path="buffer.db", reason="no disk")

    before = station.untouched("pump")
    monkeypatch.setattr(station.app._recorder._keeper, "acknowledged", fail)
    del station.document["links"]["pump"]
    told = await station.reload()
    assert (told["error"], told["exit"]) == ("agent.reload-buffer", Exit.BUFFER)
    assert station.untouched("pump") == before
    assert station.status["config_error"]["code"] == "agent.reload-buffer"


async def test_the_same_file_again_changes_nothing(station: Station) -> None:
    """Links poll on, and the logbook says that it was applied."""
    before = station.untouched("plant"), station.untouched("pump")
    told = await station.reload()
    assert told["links"] == told["uplinks"] == {"gone": [], "new": []}
    assert (station.untouched("plant"), station.untouched("pump")) == before


async def test_asks_that_wait_share_one_reload(station: Station) -> None:
    """Ten signals at once are no ten reloads."""
    reloader = station.app._reloader
    asked = [reloader.ask() for _ in range(10)]
    answers = await asyncio.gather(*asked)
    assert all(answer is answers[0] for answer in answers)
    assert reloader.ask() is not asked[0]


def test_a_difference_names_what_stops_and_what_starts() -> None:
    """What changed does both; a name that stays with an equal making does neither."""
    told = difference({"a": 1, "b": 2, "c": None}, {"b": 3, "c": None, "d": None})
    assert told == (("a", "b"), ("b", "d"))


SERVICE = """
gateway: {id: station-1, language: en}
buffer: {path: data/buffer.db, seal_every: 200ms}
links:
  waves: {driver: simulated, devices: {tank: {every: 100ms, points: {level: {wave: sine}}}}}
"""
MORE = """links:
  more: {driver: simulated, devices: {well: {every: 100ms, points: {level: {wave: ramp}}}}}
"""


async def test_the_service_reloads_on_sighup_and_on_the_command(tmp_path: Path) -> None:
    """As processes: exit 0 with what changed, 78 with the faults; a part in links.d counts."""
    file = tmp_path / "gateway.yaml"
    file.write_text(SERVICE)
    service = Running(file)
    try:
        await asyncio.to_thread(service.status)
        (tmp_path / "links.d").mkdir()
        (tmp_path / "links.d" / "more.yaml").write_text(MORE)
        service.process.send_signal(signal.SIGHUP)
        await until(lambda: set(service.status()["links"]) == {"waves", "more", "gateway"})
        (tmp_path / "links.d" / "more.yaml").write_text(MORE.replace("ramp", "rump"))
        code, said = await trambien("reload", "-c", str(file))
        assert code == Exit.CONFIG
        assert "more.yaml:2:" in said
        assert "Did you mean `ramp`?" in said
        (tmp_path / "links.d" / "more.yaml").unlink()
        code, said = await trambien("reload", "-c", str(file))
        assert code == Exit.OK
        assert "links: started none; stopped more" in said
        code, said = await trambien("reload", "-c", str(file), "--json")
        assert json.loads(said)["links"] == {"gone": [], "new": []}
    finally:
        log = await asyncio.to_thread(service.leave)
    assert "config-refused" in log
    assert service.process.returncode == 0
    code, said = await trambien("reload", "-c", str(file))
    assert code == Exit.UNAVAILABLE


async def trambien(*arguments: str) -> tuple[int, str]:
    """Run the command; give its code and what it said."""
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "agent", *arguments), stdout=-1, stderr=asyncio.subprocess.STDOUT
    )
    said, _ = await process.communicate()
    return process.returncode or 0, said.decode()


async def test_who_may_not_order_is_told_and_nothing_is_reloaded(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """77, with what to do about it: status may be asked by the group, a reload may not."""
    file = tmp_path / "gateway.yaml"
    file.write_text(SERVICE)
    (tmp_path / "data").mkdir()
    ordered: list[int] = []

    async def order() -> dict[str, Any]:
        ordered.append(1)
        return {}

    monkeypatch.setattr(control, "_user", lambda _: 12345)
    path = control.socket_path(tmp_path / "data" / "buffer.db")
    serving = asyncio.create_task(control.serve(path, {}, {"reload": order}))
    await until(path.exists)
    code, said = await trambien("reload", "-c", str(file))
    serving.cancel()
    assert (code, ordered) == (Exit.PERMISSION, [])
    assert "sudo" in said
