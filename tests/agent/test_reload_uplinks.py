"""A change of uplinks while the station runs: they come, change and go beside others that run on."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from reloading import Station, goes_on, reading
from rig import Platform, until

from agent.broker import Message, connect
from agent.uplink import Uplink


@pytest.fixture
async def station(tmp_path: Path) -> AsyncIterator[Station]:
    """Run a station that reads two instruments."""
    async with reading(tmp_path) as one:
        yield one


def uplink(platform: Platform, name: str, **more: object) -> dict[str, Any]:
    """Give the settings of an uplink to the broker."""
    pair = platform.authority.issue(name)
    tls = {"ca": str(platform.authority.ca), "cert": str(pair.cert), "key": str(pair.key)}
    return {"url": f"mqtts://localhost:{platform.broker.port}", "tls": tls, **more}


async def connected(station: Station, *names: str) -> None:
    """Wait until uplinks are connected and have nothing pending for a moment."""
    await until(lambda: set(station.status["uplinks"]) == set(names))
    for name in names:
        await until(lambda name=name: station.status["uplinks"][name]["connected"])  # type: ignore[misc]
        await until(lambda name=name: not any(station.status["uplinks"][name]["pending"].values()))  # type: ignore[misc]


async def test_uplinks_come_change_and_go_while_others_run_on(station: Station, platform: Platform) -> None:
    """An unchanged one keeps its connection; one that comes gets the whole backlog; one that returns goes on."""
    async with platform_listener(platform) as received:
        station.document["uplinks"] = {"province": uplink(platform, "province")}
        await station.reload()
        await connected(station, "province")
        task = station.works._uplinks._workers["province"]
        station.document["uplinks"]["factory"] = uplink(platform, "factory", prefix="factory/v1")
        told = await station.reload()
        assert told["uplinks"] == {"gone": [], "new": ["factory"]}
        await connected(station, "province", "factory")
        assert station.works._uplinks._workers["province"] is task
        assert station.status["uplinks"]["province"]["sessions"] == 1
        station.document["uplinks"]["factory"]["window"] = 5
        assert (await station.reload())["uplinks"] == {"gone": ["factory"], "new": ["factory"]}
        await connected(station, "province", "factory")
        listening = [
            one for one in station.app._recorder.listeners if isinstance(getattr(one, "__self__", None), Uplink)
        ]
        assert len(listening) == 2
        kept = station.document["uplinks"].pop("factory")
        await station.reload()
        await connected(station, "province")
        sealed = station.status["streams"]["main"]["sealed"]
        await until(lambda: station.status["streams"]["main"]["sealed"] > sealed + 3)
        station.document["uplinks"]["factory"] = kept
        await station.reload()
        await connected(station, "province", "factory")
        await station.leave()
    for root in ("trambien/v1", "factory/v1"):
        blocks = [message.payload for message in received if message.topic == f"{root}/station-1/block/main"]
        assert len(set(blocks)) == station.status["streams"]["main"]["sealed"]
        assert len(blocks) - len(set(blocks)) <= 70  # what was in flight in two sessions, and no backlog twice


async def test_an_uplink_that_carries_all_streams_gets_one_that_comes(station: Station, platform: Platform) -> None:
    """Its settings did not change, what they mean did; the settled blocks of the others are not sent again."""
    station.document["uplinks"] = {"province": uplink(platform, "province")}
    async with platform_listener(platform) as received:
        await station.reload()
        await connected(station, "province")
        station.document["links"]["pump"]["devices"]["press"]["stream"] = "production"
        told = await station.reload()
        assert told["uplinks"] == {"gone": ["province"], "new": ["province"]}
        await connected(station, "province")
        await until(lambda: any(message.topic.endswith("/block/production") for message in received))


async def test_a_format_that_gives_times_may_come_and_so_may_a_stream_for_it(
    station: Station, platform: Platform
) -> None:
    """The chains are read for it then, and a stream that nobody had at the start is placed in time as well."""
    async with platform_listener(platform) as received:
        station.document["uplinks"] = {"province": uplink(platform, "province")}
        await station.reload()
        await connected(station, "province")
        station.document["uplinks"]["province"]["format"] = "json"
        assert (await station.reload())["uplinks"]["new"] == ["province"]
        station.document["links"]["pump"]["devices"]["press"]["stream"] = "production"
        await station.reload()
        await connected(station, "province")
        await goes_on(station, "pump")
        assert station.running.done() is False
        if station.status["clock"]["quality"] == "synchronised":
            await until(lambda: any(message.topic.endswith("/json/production") for message in received))


@asynccontextmanager
async def platform_listener(platform: Platform) -> AsyncIterator[list[Message]]:
    """Give what a platform hears, as a list that grows."""
    async with await connect(platform.endpoint("listener")) as session:
        received: list[Message] = []
        session.on_message = received.append
        await session.subscribe("#")
        yield received
