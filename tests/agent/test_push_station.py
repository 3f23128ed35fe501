"""Pushes to a real station over a real broker: tried, confirmed, undone, let in, told in the chain."""

import asyncio
from hashlib import sha256

import pytest
from operators import GATEWAY, LAN, MALLORY, MINH, new_trust, trust_bytes
from pushing import pushed_to
from rig import until
from steady import SteadyLoop
from typer.testing import CliRunner, Result

from agent import control
from agent.cli import app as command
from config.raw import digest_of


@pytest.fixture
async def station(tmp_path, platform, monkeypatch):
    """Give a running station whose probations end soon."""
    async with pushed_to(tmp_path, platform, monkeypatch) as pushed:
        yield pushed


async def test_a_good_push_is_confirmed_and_stands_in_the_chain(station):
    """Every state is told, the other link is not touched, and the same push again changes nothing."""
    pump = station.health()["links"]["other"]["devices"]["pump"]
    data = station.push("tank: {every: 100ms", "tank: {every: 200ms")
    await station.send(data)
    result = await station.state("confirmed")
    assert (
        result["push"]["target"] == result["file"] == result["config"] == sha256(station.file.read_bytes()).hexdigest()
    )
    assert "every: 200ms" in station.file.read_text()
    told = len(station.results)
    await station.send(data)
    await asyncio.sleep(2)
    assert station.results[told:] == []
    missed = station.health()["links"]["other"]["devices"]["pump"]["missed"] - pump["missed"]
    assert missed <= SteadyLoop.running().ticks(0.1)
    await station.leave()
    states = [data["push"] for data in station.events("config-push")]
    assert states == [f"province 1.1 {state}" for state in ("verified", "staged", "validated", "applied", "confirmed")]


async def test_a_forged_push_is_reported_and_changes_nothing(station):
    """Over the same broker, under the same topic, with somebody else's key."""
    before = station.file.read_bytes()
    await station.send(station.push("100ms", "50ms", MALLORY))
    await until(lambda: station.results[-1]["refused"] is not None)
    assert station.results[-1]["refused"]["reason"] == "push.unknown-key"
    assert station.results[-1]["push"] is None
    assert station.file.read_bytes() == before
    assert not station.file.with_name("gateway.yaml.push").joinpath("previous.yaml").exists()
    await station.leave()
    assert [data["push"] for data in station.events("push-refused")] == ["province push.unknown-key"]


async def test_a_push_that_costs_the_uplink_reverts_by_itself(station):
    """A broker that is not there: nothing can be told until the previous configuration has returned."""
    before = station.file.read_bytes()
    wrong = f"localhost:{station.platform.broker.port}", "localhost:9"
    await station.send(station.push(*wrong, LAN, MINH))
    result = await station.state("rolled-back")
    assert result["push"]["reason"] == "push.not-delivered"
    assert station.file.read_bytes() == before
    assert result["config"] == sha256(before).hexdigest()
    await until(lambda: station.health()["uplinks"]["province"]["connected"])
    await until(lambda: len(station.alive()) == 2)


async def test_a_critical_change_needs_two(station):
    """The same push of an uplink with one signature is refused."""
    await station.send(station.push("data/buffer.db", "data/other.db", LAN))
    await until(lambda: station.results[-1]["refused"] is not None)
    assert station.results[-1]["refused"]["reason"] == "push.critical"


async def test_an_edit_at_the_station_stands_until_a_person_decides(station):
    """A push based on another file is refused and kept; `accept-remote` lets it in."""
    data = station.push("tank: {every: 100ms", "tank: {every: 300ms")
    edited = station.file.read_text() + "# by the technician\n"
    station.file.write_text(edited)
    await station.send(data)
    result = await station.state("rejected")
    assert result["push"]["reason"] == "push.base-changed"
    assert station.file.read_text() == edited
    path = control.socket_path(station.file.with_name("data") / "buffer.db")
    answer = await asyncio.to_thread(control.ask, path, "accept-remote")
    assert answer["ok"], answer
    await station.state("confirmed")
    assert "every: 300ms" in station.file.read_text()
    assert (await asyncio.to_thread(control.ask, path, "accept-remote"))["error"] == "push.no-conflict"


async def test_an_edit_in_links_d_is_an_edit_made_here_and_no_push_touches_it(station):
    """A push based on the main file alone is refused; one based on all files replaces the main file only."""
    data = station.push("tank: {every: 100ms", "tank: {every: 300ms")
    part = station.file.with_name("links.d") / "gas.yaml"
    part.parent.mkdir()
    part.write_text("links: {gas: {driver: simulated, devices: {gas: {every: 1s, points: {a: {wave: sine}}}}}}\n")
    await station.send(data)
    result = await station.state("rejected")
    assert result["push"]["reason"] == "push.base-changed"
    assert result["file"] == digest_of(station.file).hex()
    written = part.read_bytes()
    await station.send(station.push("tank: {every: 100ms", "tank: {every: 400ms", base=digest_of(station.file)))
    result = await station.state("confirmed")
    assert result["file"] == result["config"] == digest_of(station.file).hex()
    assert part.read_bytes() == written
    assert sorted(station.alive()) == ["gas", "pump", "tank"]


async def test_a_push_with_links_d_that_is_undone_leaves_what_stood_there(station):
    """The main file returns; what was written in `links.d` during probation stays."""
    before = station.file.read_bytes()
    part = station.file.with_name("links.d") / "gas.yaml"
    part.parent.mkdir()
    part.write_text("links: {gas: {driver: simulated, devices: {gas: {every: 1s, points: {a: {wave: sine}}}}}}\n")
    wrong = f"localhost:{station.platform.broker.port}", "localhost:9"
    await station.send(station.push(*wrong, LAN, MINH, base=digest_of(station.file)))
    await until(lambda: b"localhost:9" in station.file.read_bytes())
    part.write_text(part.read_text() + "# by the technician\n")
    result = await station.state("rolled-back")
    assert result["push"]["reason"] == "push.not-delivered"
    assert station.file.read_bytes() == before
    assert part.read_text().endswith("technician\n")


async def test_an_edit_during_probation_stands(station):
    """It is not put back over."""
    await station.send(station.push("tank: {every: 100ms", "tank: {every: 300ms"))
    await station.state("applied")
    edited = station.file.read_text() + "# by the technician\n"
    station.file.write_text(edited)
    result = await station.state("rolled-back")
    assert result["push"]["reason"] == "push.local-edit"
    assert station.file.read_text() == edited


async def test_trust_is_replaced_over_the_air(station):
    """By both thresholds; the next push is judged by the new document."""
    await station.send(new_trust())
    await until(lambda: station.results[-1]["trust"] == 2)
    assert station.file.with_name("trust.json").read_bytes() == trust_bytes(version=2)


# -- the operator's side -----------------------------------------------------------------------------------------------


async def trambien(*arguments: object, code: int = 0) -> Result:
    """Type a command."""
    typed = [str(argument) for argument in arguments]
    result = await asyncio.to_thread(CliRunner().invoke, command, typed, env={"LANG": "en_US.UTF-8"})
    assert result.exit_code == code, (result.output, result.exception)
    return result


async def test_an_operator_makes_keys_and_trust_signs_with_a_second_one_and_sends(station, tmp_path):
    """From nothing to a confirmed push, by the commands alone; a gateway that is not there stops the rollout."""
    desk = tmp_path / "desk"
    desk.mkdir()
    for name in ("lan", "minh"):
        await trambien("push", "keygen", desk / name)
    await trambien("push", "keygen", desk / "lan", code=69)
    document = station.file.with_name("trust.json")
    made = await trambien("push", "trust", desk / "lan.pub", desk / "minh.pub", "--fleet", "coast", "--out", document)
    assert (await trambien("push", "trust", document)).output == made.output
    # Put here by hand: newer than the one before, else the station would not believe it.
    document.write_text(document.read_text().replace('"version": 1', '"version": 2'))
    new = desk / "new.yaml"
    new.write_text(station.file.read_text().replace("tank: {every: 100ms", "tank: {every: 400ms"))
    facts = ["--base", station.file, "--gateway", GATEWAY, "--platform", "province", "--version", 1, "--probation", 10]
    one = await trambien("push", "sign", new, "--key", desk / "lan", "--out", desk / "one", *facts, "--yes")
    assert "+      tank: {every: 400ms" in one.output
    await trambien("push", "sign", "--add", desk / "one", "--key", desk / "minh", "--out", desk / "two", "--yes")
    pair = station.platform.authority.issue("desk")
    tls = ["--ca", station.platform.authority.ca, "--cert", pair.cert, "--tls-key", pair.key]
    broker = ["--broker", f"mqtts://localhost:{station.platform.broker.port}", *tls, "--within", 30]
    sent = await trambien("push", "send", desk / "two", "--gateway", GATEWAY, *broker)
    assert "station-1: confirmed" in sent.output
    assert "every: 400ms" in station.file.read_text()
    watched = await trambien("push", "watch", desk / "two", "--gateway", GATEWAY, *broker)
    assert "1 of 1" in watched.output
    broker[-1] = 1
    away = await trambien("push", "send", desk / "two", "-g", "away", "-g", GATEWAY, *broker, "--canary", 1, code=1)
    assert "away: silent" in away.output
    assert "1 failed" in away.output
    await trambien("push", "send", desk / "lan", "--gateway", GATEWAY, *broker, code=69)


async def test_the_person_at_the_station_decides_by_a_command(station):
    """Where nothing waits for a decision it says so."""
    config = ["config", "accept-remote", "--config", station.file]
    await trambien(*config, code=69)
    data = station.push("tank: {every: 100ms", "tank: {every: 300ms")
    station.file.write_text(station.file.read_text() + "# edited\n")
    await station.send(data)
    await station.state("rejected")
    assert "Version 1" in (await trambien(*config)).output
    await station.state("confirmed")
