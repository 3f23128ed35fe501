"""Thirty configurations that are well signed and bad: refused at validation, or undone by themselves.

`TRAMBIEN_BAD=1 pytest tests/agent/test_push_bad.py` tries all of them.
"""

import asyncio
import os
import shutil

import pytest
from operators import LAN, MINH
from pushing import pushed_to
from rig import until

from agent.demo.certificates import Authority

OTHER = "  other:\n    driver: simulated\n    devices:\n      pump: {every: 100ms, points: {level: {wave: sine}}}"
MODBUS = """\
  other:
    driver: modbus
    {wire}
    devices:
      pump: {{unit: 1, every: {every}, points: {{level: {{input: 0}}}}}}"""


def modbus(wire: str, every: str) -> tuple[str, str]:
    """Put a Modbus link in the place of the other one."""
    return OTHER, MODBUS.format(wire=wire, every=every)


REFUSED = {
    "colliding-links": ("  other:\n", "  waves:\n"),
    "colliding-devices": ("      pump:", "      pump: {every: 1s, points: {a: {wave: sine}}\n      pump:"),
    "colliding-uplinks": ("buffer:", '  province: {url: "mqtt://x:1"}\nbuffer:'),
    "misspelt-key": ("seal_every", "seal_evry"),
    "unknown-driver": ("driver: simulated", "driver: simulatd"),
    "unknown-wave": ("wave: sine", "wave: sinus"),
    "no-unit-of-time": ("every: 100ms", "every: 100"),
    "no-time-at-all": ("every: 100ms", "every: 0s"),
    "wrong-scheme": ("mqtts://", "http://"),
    "missing-ca": ("ca.pem", "gone.pem"),
    "missing-key": (".key}", ".gone}"),
    "key-of-another": ("/station-1.key", "/operator.key"),
    "no-links": ("links:", "nolinks:"),
    "other-gateway": ("id: station-1", "id: station-2"),
    "other-buffer": ("data/buffer.db", "data/other.db"),
    "tabs": ("  waves:", "\twaves:"),
    "alias": ("gateway: {", "gateway: &g {"),
    "no-language": ("language: en", "language: fr"),
    "missing-secret": ("seal_every: 200ms", "seal_every: !secret gone"),
    "window-of-nothing": ("accept: [config]", "accept: [config], window: 0"),
    "plain-to-tls": ("mqtts://localhost:{port}", "mqtt://localhost:{port}"),
}
UNDONE = {
    "dead-port": ("localhost:{port}", "localhost:9"),
    "wrong-host": ("localhost:{port}", "no-such-host.invalid:8883"),
    "wrong-ca": ("/ca.pem", "/strange-ca.pem"),
    "strange-identity": ("/station-1.", "/stranger."),
    "unheard-prefix": ("accept: [config]", "accept: [config], prefix: nobody/listens"),
    "streams-of-nothing": ("accept: [config]", "accept: [config], streams: [side]"),
    "silent-instrument": modbus("host: 127.0.0.1\n    port: 9", "100ms"),
    "dead-serial-port": modbus("serial: {port: /dev/serial/by-id/gone, baud: 9600}", "10s"),
    "ten-times-the-rate": modbus("serial: {port: /dev/serial/by-id/bus, baud: 9600}", "10ms"),
}
EXPECTED = {
    "ten-times-the-rate": [("rejected", "push.overloaded")],
    "silent-instrument": [("rolled-back", "push.device-dead")],
    "dead-serial-port": [("rolled-back", "push.device-dead")],
    "other-gateway": [("rejected", "push.fixed")],
    "other-buffer": [("rejected", "push.fixed")],
}
ANY = ([("rolled-back", "push.not-delivered")], [("rejected", "push.invalid")])
UNREADABLE = ("colliding-devices", "tabs")
"""No YAML, so that whether they touch what is critical cannot be said: refused before they count as genuine."""
ALL = {**REFUSED, **UNDONE}
SMOKE = ("colliding-links", "dead-port", "silent-instrument", "ten-times-the-rate")
FULL = "TRAMBIEN_BAD" in os.environ


@pytest.fixture
async def station(tmp_path, platform, monkeypatch):
    """Give a running station whose probations end soon."""
    async with pushed_to(tmp_path, platform, monkeypatch) as pushed:
        yield pushed


@pytest.mark.parametrize("name", ALL if FULL else SMOKE)
async def test_a_bad_configuration_that_is_well_signed(station, tmp_path, name):
    """Refused at validation, or undone within its probation and thirty seconds; the other link polls on untouched."""
    station.platform.authority.issue("operator")
    stranger = Authority(tmp_path / "strange", "a stranger")
    pair = stranger.issue("stranger")
    folder = station.platform.authority.ca.parent
    shutil.copy(stranger.ca, folder / "strange-ca.pem")
    shutil.copy(pair.cert, folder / "stranger.pem")
    shutil.copy(pair.key, folder / "stranger.key")
    before = station.file.read_bytes()
    untouched = station.app._works._pollers._workers["waves"]
    port = f"localhost:{station.platform.broker.port}"
    old, new = (text.replace("localhost:{port}", port) for text in ALL[name])
    data = station.push(old, new, LAN, MINH)
    began_s = asyncio.get_running_loop().time()
    await station.send(data)
    if name in UNREADABLE:
        await until(lambda: station.results[-1]["refused"] is not None)
        assert station.results[-1]["refused"]["reason"] == "push.unreadable"
    else:
        result = await station.state("rejected", "rolled-back", seconds=60)
        assert (result["push"]["state"], result["push"]["reason"]) in EXPECTED.get(name, ANY[name in REFUSED]), result
    assert asyncio.get_running_loop().time() - began_s < 10 + 30
    assert station.file.read_bytes() == before
    if name in REFUSED or old not in before.decode().split("  other:")[0]:
        assert station.app._works._pollers._workers["waves"] == untouched
    await until(lambda: station.health()["uplinks"]["province"]["connected"])
