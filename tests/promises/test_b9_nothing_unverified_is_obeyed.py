"""B9: nothing unverified is obeyed, and a configuration that costs the gateway its uplink reverts by itself."""

import asyncio
import sys
from hashlib import sha256

import pytest
from operators import AFTER, BEFORE, CRITICAL, GATEWAY, LAN, MALLORY, MINH, NOW_S, push, trust_bytes
from ota_process import FastClock, Standin, fly
from rig import until

from agent import ota
from agent.broker import Message
from agent.errors import AsideFailed
from agent.journal import Hold
from agent.ota import Ota
from agent.push_mail import serve
from agent.reading import read
from config.push import SIZE_LIMIT


@pytest.fixture
def hold(tmp_path):
    """Give the files of a station, with the configuration it runs and the trust it was given."""
    (tmp_path / "gateway.yaml").write_bytes(BEFORE)
    (tmp_path / "trust.json").write_bytes(trust_bytes())
    clock = FastClock(bytes(16))
    return Hold(tmp_path / "gateway.yaml", clock.boot_id.hex(), clock.boot_ns)


def files(hold):
    """Give what stands on the disk but for the trust that is journalled."""
    return {path.name: path.read_bytes() for path in hold.config.parent.iterdir() if path.is_file()}


@pytest.mark.parametrize(
    "data",
    [
        push(MALLORY),
        push(gateways=("station-2",)),
        push(platform="factory"),
        push(epoch=2),
        push(expires_s=NOW_S - 30),
        push(configuration=CRITICAL),
        push()[:-1],
        bytes(SIZE_LIMIT + 1),
        b"rubbish",
    ],
)
async def test_what_is_not_genuine_leaves_no_trace_but_a_report(hold, data):
    """Whatever is wrong with it: the file stays, and the disk is not written."""
    clock, standin = FastClock(bytes(16)), Standin(hold.config)
    station = Ota(hold, standin.house, clock.moment, lambda path: read(path, clock), GATEWAY)
    running = asyncio.create_task(station.run())
    await until(lambda: hold.journal.trust_version == 1)
    before = files(hold)
    station.take("province", data)
    await until(lambda: any(event.startswith("push-refused") for event in standin.events))
    assert files(hold) == before
    assert hold.journal.flight is None
    assert b'"refused":{"reason":"push.' in station.result("province")
    running.cancel()


async def test_an_older_version_is_not_obeyed_after_a_newer_one(hold):
    """What was good once is not good again, also after a restart."""
    clock, standin = FastClock(bytes(16)), Standin(hold.config)
    await fly(hold, clock, standin, push(probation_s=10))
    assert hold.journal.flight.state == "confirmed"
    hold.release()
    again = Hold(hold.config, clock.boot_id.hex(), clock.boot_ns)
    again.recover()
    station = Ota(again, standin.house, clock.moment, lambda path: read(path, clock), GATEWAY)
    running = asyncio.create_task(station.run())
    old = push(version=5, base=sha256(AFTER).digest(), configuration=BEFORE)
    station.take("province", old)
    await until(lambda: b"push.older-version" in station.result("province"))
    assert hold.config.read_bytes() == AFTER
    running.cancel()


async def test_a_configuration_that_costs_the_uplink_reverts_by_itself(hold):
    """No uplink, no wall clock, nobody to ask."""
    mute = AFTER + b"# mute\n"
    await fly(hold, FastClock(bytes(16), wall_s=0), Standin(hold.config), push(configuration=mute, probation_s=10))
    assert (hold.journal.flight.state, hold.journal.flight.reason) == ("rolled-back", "push.not-delivered")
    assert hold.config.read_bytes() == BEFORE


async def test_a_configuration_that_cannot_be_taken_up_reverts_at_once(hold):
    """The running station refuses it."""
    refused = AFTER + b"# refuse\n"
    await fly(hold, FastClock(bytes(16)), Standin(hold.config), push(configuration=refused))
    assert (hold.journal.flight.state, hold.journal.flight.reason) == ("rolled-back", "push.not-applied")
    assert hold.config.read_bytes() == BEFORE


async def test_one_push_at_a_time_and_no_flood(hold):
    """What comes while one is on probation is refused; what comes faster than it is judged is counted."""
    clock, standin = FastClock(bytes(16)), Standin(hold.config)
    flight = asyncio.create_task(fly(hold, clock, standin, push(LAN, MINH, probation_s=300)))
    await until(lambda: hold.on_probation)
    station = Ota(hold, standin.house, clock.moment, lambda path: read(path, clock), GATEWAY)
    for _ in range(ota.MOST_WAITING + 3):
        station.take("province", push(version=8))
    assert b'"reason":"push.busy"' in station.result("province")
    assert b'"count":3' in station.result("province")
    flight.cancel()


async def test_a_damaged_journal_obeys_nothing(hold):
    """Until a person has looked; it is left as it is."""
    hold.own()
    hold.release()
    damaged = hold.folder / "journal.json"
    damaged.write_bytes(b"{")
    clock, standin = FastClock(bytes(16)), Standin(hold.config)
    again = Hold(hold.config, clock.boot_id.hex(), clock.boot_ns)
    again.recover()
    station = Ota(again, standin.house, clock.moment, lambda path: read(path, clock), GATEWAY)
    running = asyncio.create_task(station.run())
    station.take("province", push())
    await until(lambda: b"push.journal-damaged" in station.result("province"))
    assert damaged.read_bytes() == b"{"
    assert hold.config.read_bytes() == BEFORE
    running.cancel()


async def test_a_folder_that_cannot_be_written_stops_no_reading(hold):
    """The push is refused with its reason; the task that the house runs on lives."""
    (hold.config.parent / "gateway.yaml.push").write_bytes(b"in the way")
    clock, standin = FastClock(bytes(16)), Standin(hold.config)
    station = Ota(hold, standin.house, clock.moment, lambda path: read(path, clock), GATEWAY)
    running = asyncio.create_task(station.run())
    station.take("province", push())
    await until(lambda: b"push.disk" in station.result("province"))
    assert hold.config.read_bytes() == BEFORE
    assert not running.done()
    running.cancel()


async def test_what_cannot_be_judged_now_is_refused_and_may_be_sent_again(hold, monkeypatch):
    """No process could be started that reads it; the house goes on, and nothing was noted."""
    clock, standin = FastClock(bytes(16)), Standin(hold.config)
    station = Ota(hold, standin.house, clock.moment, lambda path: read(path, clock), GATEWAY)
    with monkeypatch.context() as broken:
        broken.setattr(sys, "executable", "/no/such/python")
        running = asyncio.create_task(station.run())
        station.take("province", push())
        await until(lambda: b"push.not-judged" in station.result("province"))
    assert hold.config.read_bytes() == BEFORE
    assert hold.journal.flight is None
    station.take("province", push())
    await until(lambda: hold.config.read_bytes() == AFTER)
    assert not running.done()
    running.cancel()


async def test_a_staged_file_that_cannot_be_read_now_is_not_tried(hold):
    """What stands in the file runs on."""

    def dead(_path):
        raise AsideFailed("agent.aside-died", task="read", reason="exit -9")

    clock, standin = FastClock(bytes(16)), Standin(hold.config)
    station = Ota(hold, standin.house, clock.moment, dead, GATEWAY)
    running = asyncio.create_task(station.run())
    station.take("province", push())
    await until(lambda: hold.journal.flight is not None and hold.journal.flight.state == "rejected")
    assert hold.journal.flight.reason == "push.not-judged"
    assert hold.config.read_bytes() == BEFORE
    running.cancel()


async def test_a_second_service_by_mistake_finishes_nothing(hold):
    """The one that runs has the lock; the other neither counts a start nor puts anything back."""
    clock, standin = FastClock(bytes(16)), Standin(hold.config)
    flight = asyncio.create_task(fly(hold, clock, standin, push(probation_s=300)))
    await until(lambda: hold.config.read_bytes() == AFTER)
    second = Hold(hold.config, "11" * 16, clock.boot_ns)
    second.recover()
    assert not second.give_up()
    assert hold.config.read_bytes() == AFTER
    flight.cancel()


class Line:
    """A session that hears what it is told and remembers what is asked of it."""

    def __init__(self) -> None:
        self.topics: list[str] = []
        self.on_message = None

    async def subscribe(self, *topics: str) -> None:
        """Note the topics."""
        self.topics += topics


async def test_only_the_topic_of_pushes_is_heard(hold):
    """A message of another goes to whoever heard it before; an empty one clears what was retained."""
    clock, standin = FastClock(bytes(16)), Standin(hold.config)
    station = Ota(hold, standin.house, clock.moment, lambda path: read(path, clock), GATEWAY)
    line, heard, told = Line(), [], []
    line.on_message = heard.append
    serving = asyncio.create_task(serve(line, told.append, name="province", root="root", pushes=station))
    await until(lambda: bool(told))
    assert line.topics == ["root/config/set"]
    line.on_message(Message("root/ack", b"x"))
    line.on_message(Message("root/config/set", b""))
    line.on_message(Message("root/config/set", bytes(SIZE_LIMIT + 1)))
    assert [message.topic for message in heard] == ["root/ack"]
    assert b"push.too-large" in station.result("province")
    assert told[0].retain
    serving.cancel()
