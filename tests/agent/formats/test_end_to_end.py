"""Each format over a real mosquitto with mutual TLS, read as its platform would read it."""

import asyncio
import gzip
import json
import random
from base64 import urlsafe_b64encode
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
import zstandard
from chains import key
from joserfc import jws
from joserfc.jwk import OKPKey
from rig import GROUP, Bench, Platform, until
from running import Running
from settings import uplink_of

from agent.broker import Message, connect
from agent.carrier import Carriage
from agent.formats import encoding
from agent.formats.api import Station
from agent.formats.placing import ChainPlacer
from agent.health import UplinkHealth
from agent.state import State
from agent.uplink import Uplink
from buffer.block import ClockQuality
from buffer.frame import Frame
from buffer.keys import load_public
from buffer.status import BAD_TIMEOUT
from config.model import Uplink as Settings

ROOT = "trambien/v1/station-1"


@asynccontextmanager
async def told(bench: Bench, platform: Platform, settings: Settings) -> AsyncIterator[list[Message]]:
    """Carry a frame that is good and one that is Bad in a format; give what the platform got."""
    true = bench.clock.moment
    bench.keeper._moment = lambda: true()._replace(clock=ClockQuality("synchronised", 1_000_000, "ntp"))
    health = bench.health.uplinks["province"] = UplinkHealth(("main",))
    station = Station("station-1", ROOT, "Asia/Ho_Chi_Minh", lambda: bench.key, {"meter": "maker/model"})
    uplink = Uplink(
        Carriage("province", ROOT, ("main",), encoding(station, settings, ChainPlacer(bench.clock.boot_id))),
        (platform.endpoint("station-1"),),
        bench.recorder,
        health,
        State(bench.health, "province", bench.clock.boot_ns),
        random.Random(1),
    )
    async with await connect(platform.endpoint("platform")) as session:
        received: list[Message] = []
        session.on_message = received.append
        await session.subscribe("#")
        task = asyncio.create_task(uplink.run())
        await bench.sealed(7)
        bench.recorder.add(GROUP, Frame(bench.clock.boot_ns(), 0, (8, None), (0, BAD_TIMEOUT)))
        await until(lambda: 8 in bench.numbers() and health.pending == {"main": 0})
        await asyncio.sleep(0.3)
        task.cancel()
        await asyncio.wait([task])
        yield received


def opened(message: Message, public_key: bytes) -> dict:
    """Verify as a platform does, with a library of another author, and unpack."""
    x = urlsafe_b64encode(public_key).rstrip(b"=").decode()
    public = OKPKey.import_key({"kty": "OKP", "crv": "Ed25519", "x": x})
    verified = jws.deserialize_compact(message.payload, public, algorithms=["EdDSA"])
    header = verified.headers()
    assert header["typ"] == "trambien-json"
    kind = header["cty"]
    assert message.content_type == ("application/jose" if kind == "json" else f"application/jose; cty={kind}")
    unpack = {"json": bytes, "json+gzip": gzip.decompress, "json+zstd": unzstd}[kind]
    document = json.loads(unpack(verified.payload))
    assert document["kid"] == header["kid"]
    return document


def unzstd(packed: bytes) -> bytes:
    """Decompress a frame that does not say how long it is."""
    return zstandard.ZstdDecompressor().decompress(packed, max_output_size=1 << 20)


@pytest.mark.parametrize("compress", ["none", "zstd", "gzip"])
async def test_json_is_verified_by_another_library_and_names_its_blocks(
    tmp_path: Path, platform: Platform, compress: str
) -> None:
    """Signature, identity, digest, values, statuses; compressed where it pays, and marked."""
    async with Bench(tmp_path / "buffer.db") as bench:
        async with told(bench, platform, uplink_of(url="mqtts://h", format="json", compress=compress)) as received:
            messages = [one for one in received if one.topic == f"{ROOT}/json/main"]
            documents = sorted((opened(one, bench.key.public_key) for one in messages), key=lambda one: one["seq"])
        sealed = {kept.block.digest.hex() for kept in bench.committed if kept.stream == "main"}
    assert {document["digest"] for document in documents} == sealed
    points = [point for document in documents for group in document["groups"] for point in group["points"]]
    serials = [value for point in points if point["name"] == "serial" for value in point["values"]]
    powers = [point for point in points if point["name"] == "power"]
    assert serials == [7, 8]
    assert [value for point in powers for value in point["values"]] == [1.5, None]
    assert [mark[1] for point in powers for mark in point.get("status", [])] == ["BadTimeout"]
    packed = {one.content_type for one in messages}
    assert ("application/jose; cty=json+" + compress in packed) == (compress != "none")
    assert not any(part in one.topic for one in received for part in ("/layout/", "/catalogue/", "/block/"))


async def test_a_json_message_that_was_touched_does_not_verify(tmp_path: Path, platform: Platform) -> None:
    """Neither a changed payload nor another key."""
    async with Bench(tmp_path / "buffer.db") as bench:
        async with told(bench, platform, uplink_of(url="mqtts://h", format="json")) as received:
            message = next(one for one in received if "/json/" in one.topic)
        head, payload, signature = message.payload.split(b".")
        swapped = payload[:40] + bytes([payload[40] ^ 1]) + payload[41:]
        for content, public in ((swapped, bench.key.public_key), (payload, key(9).public_key)):
            with pytest.raises(Exception, match="bad_signature"):
                opened(Message(message.topic, b".".join((head, content, signature))), public)


async def test_thingsboard_is_told_of_the_device_and_then_its_telemetry(tmp_path: Path, platform: Platform) -> None:
    """In that order, on ThingsBoard's topics, and the Bad value is not there."""
    async with Bench(tmp_path / "buffer.db") as bench:
        async with told(bench, platform, uplink_of(url="mqtts://h", format="thingsboard")) as received:
            pass
    gateway = [one for one in received if one.topic.startswith("v1/gateway/")]
    assert not [one.topic for one in received if one not in gateway]
    assert [one.topic for one in gateway[:2]] == ["v1/gateway/connect", "v1/gateway/attributes"]
    assert json.loads(gateway[0].payload) == {"device": "station-1/meter", "type": "maker/model"}
    rows = [row for one in gateway[2:] for row in json.loads(one.payload)["station-1/meter"]]
    values = sorted((row["values"] for row in rows), key=lambda values: values["serial"])
    assert values == [{"serial": 7, "power": 1.5}, {"serial": 8}]
    assert all(1_600_000_000_000 < row["ts"] < 4_000_000_000_000 for row in rows)


async def test_template_speaks_a_platforms_own_json(tmp_path: Path, platform: Platform) -> None:
    """Topic, payload and content type as the platform wants them; readings without a value are left out."""
    template = {
        "each": "reading",
        "topic": "messages/{{ device }}/{{ point }}",
        "payload": '{% if value is not none %}{"ts":{{ utc_ms }},"value":{{ value | json }}}{% endif %}',
        "content_type": "application/json",
    }
    async with Bench(tmp_path / "buffer.db") as bench:
        settings = uplink_of(url="mqtts://h", format="template", template=template)
        async with told(bench, platform, settings) as received:
            pass
    own = [one for one in received if one.topic.startswith("messages/")]
    assert len(own) == len(received)
    told_values = sorted((one.topic, json.loads(one.payload)["value"]) for one in own)
    serial, power = "messages/meter/serial", "messages/meter/power"
    assert told_values == [(power, 1.5), (serial, 7), (serial, 8)]
    assert {one.content_type for one in own} == {"application/json"}


SERVICE = """
gateway: {{id: station-1}}
buffer: {{path: data/buffer.db, seal_every: 200ms}}
uplinks:
  province: {{url: 'mqtts://localhost:{port}', format: json, compress: zstd, points: [tank/level], tls: {tls}}}
  board: {{url: 'mqtts://localhost:{port}', format: thingsboard, prefix: other, tls: {tls}}}
links:
  waves:
    driver: simulated
    devices:
      tank: {{every: 100ms, points: {{level: {{wave: sine}}, secret: {{wave: sine}}}}}}
"""


async def test_the_service_speaks_the_formats_its_configuration_names(tmp_path: Path, platform: Platform) -> None:
    """The whole way from the file; no template library is imported where no template is named."""
    pair = platform.authority.issue("station-1")
    tls = json.dumps({"ca": str(platform.authority.ca), "cert": str(pair.cert), "key": str(pair.key)})
    config = tmp_path / "gateway.yaml"
    config.write_text(SERVICE.format(port=platform.broker.port, tls=tls))
    async with await connect(platform.endpoint("listener")) as session:
        received: list[Message] = []
        session.on_message = received.append
        await session.subscribe(f"{ROOT}/#")
        service = Running(config, "-X", "importtime")
        try:
            await until(lambda: len(received) > 10)
        finally:
            log = await asyncio.to_thread(service.leave)
    assert service.process.returncode == 0, log
    public = load_public(tmp_path / "data" / "device.key.pub")
    documents = [opened(one, public) for one in received if "/json/" in one.topic]
    assert any("/state" in one.topic for one in received)
    assert not any(b"secret" in one.payload or b"waves" in one.payload for one in received)
    points = [point for document in documents for group in document["groups"] for point in group["points"]]
    assert {point["name"] for point in points} == {"level"}
    imported = {line.rsplit("|", 1)[-1].strip() for line in log.splitlines() if "|" in line}
    assert "agent.formats.jws" in imported
    assert "jinja2" not in imported
