"""`trambien demo` from end to end: the outage, the kill, the drain, or the pushes; and the verdict."""

import json
import re
import socket
import subprocess
import sys
from pathlib import Path

import pytest
from rig import Platform

from agent.broker import Message, connect
from agent.demo.brokers import Embedded
from agent.demo.certificates import Authority
from agent.errors import BrokerDown, BrokerRefused, Exit


def demo(*options: str) -> subprocess.CompletedProcess[str]:
    """Run the demonstration as a user does, without a terminal."""
    command = [sys.executable, "-m", "agent", "demo", "--language", "en", *options]
    return subprocess.run(command, capture_output=True, text=True, timeout=300, check=False)


@pytest.mark.slow
@pytest.mark.timeout(400)
@pytest.mark.parametrize("broker", ["mosquitto", "embedded"])
def test_the_demonstration_holds_and_what_it_keeps_can_be_proven_again(tmp_path: Path, broker: str) -> None:
    """Nothing lost, everything proven; and `verify` says the same of the kept buffer."""
    keep = tmp_path / "kept"
    shown = demo("--json", "--keep", str(keep), *(["--embedded"] if broker == "embedded" else []))
    assert shown.returncode == Exit.OK, shown.stderr
    verdict = json.loads(shown.stdout.splitlines()[-1])
    assert verdict["holds"]
    assert verdict["lost"] == 0
    assert verdict["unsealed_at_kill"] <= verdict["unsealed_bound"]
    assert verdict["delivered"] == verdict["produced"] - verdict["unsealed_at_kill"] > 100
    assert verdict["proven"] == verdict["blocks"] > 50
    assert {silence["stream"] for silence in verdict["dead"]} == {"environment", "production"}
    assert min(tally["delivered"] for tally in verdict["instruments"].values()) > 20
    assert ("3.1.1" in shown.stderr) == (broker == "embedded")
    buffer = keep / "buffer" / "buffer.db"
    command = [sys.executable, "-m", "agent", "verify", str(buffer), "--trust", f"{buffer.parent / 'device.key'}.pub"]
    proof = subprocess.run(command, capture_output=True, text=True, check=False)
    assert proof.returncode == Exit.OK, proof.stdout
    assert sum(map(int, re.findall(r": (\d+) ", proof.stdout))) == verdict["blocks"]


@pytest.mark.slow
@pytest.mark.timeout(400)
@pytest.mark.parametrize("broker", ["mosquitto"])
def test_the_demonstration_of_pushes_holds(tmp_path: Path, broker: str) -> None:
    """One is obeyed, one is forged, one cuts the station off and undoes itself; nothing is lost meanwhile."""
    keep = tmp_path / "kept"
    options = ["--embedded"] if broker == "embedded" else []
    shown = demo("--push", "--json", "--keep", str(keep), *options)
    assert shown.returncode == Exit.OK, shown.stderr
    verdict = json.loads(shown.stdout.splitlines()[-1])
    assert verdict["holds"]
    ended = {name: (one["state"], one["reason"]) for name, one in verdict["pushes"].items()}
    assert ended == {
        "good": ("confirmed", ""),
        "forged": ("refused", "push.unknown-key"),
        "fatal": ("rolled-back", "push.not-delivered"),
    }
    assert verdict["pushes"]["fatal"]["seconds"] <= 10 + 30
    assert verdict["every_before_s"] > 1.5 * verdict["every_after_s"]
    assert verdict["lost"] == 0
    assert verdict["proven"] == verdict["blocks"] > 50
    assert "every: 500ms" in (keep / "gateway.yaml").read_text()
    assert "that cannot be read" not in shown.stderr
    assert ("3.1.1" in shown.stderr) == (broker == "embedded")


@pytest.mark.parametrize(
    ("options", "code", "words"),
    [
        (("--keep", "{full}"), Exit.UNAVAILABLE, "not empty"),
        (("--keep", "/proc/none"), Exit.UNAVAILABLE, "/proc/none"),
        (("--data", "{full}"), Exit.UNAVAILABLE, "no recorded data"),
        (("--port", "{busy}"), Exit.BUSY, "port {busy}"),
        (("--port", "99999"), 2, "--port"),
        (("--language", "fr"), 2, "vi"),
    ],
)
def test_bad_input_is_told_in_one_line_with_its_cure(
    tmp_path: Path, options: tuple[str, ...], code: int, words: str
) -> None:
    """No traceback, nothing started, nothing written over."""
    (tmp_path / "mine").write_text("something")
    with socket.create_server(("127.0.0.1", 0)) as busy:
        fields = {"full": str(tmp_path), "busy": busy.getsockname()[1]}
        shown = demo(*(option.format(**fields) for option in options))
        assert shown.returncode == code, shown.stderr
        assert words.format(**fields) in shown.stderr
    assert "Traceback" not in shown.stderr
    assert (tmp_path / "mine").read_text() == "something"


async def test_the_embedded_broker_demands_a_certificate(tmp_path: Path) -> None:
    """Mutual TLS is not only said."""
    authority = Authority(tmp_path)
    broker = Embedded(tmp_path, authority, None)
    await broker.start()
    platform = Platform(broker, authority)  # type: ignore[arg-type]
    try:
        async with await connect(platform.endpoint("gateway", protocol=4)) as session:
            assert await session.publish(Message("a", b"1")) == 0
        with pytest.raises((BrokerDown, BrokerRefused)):
            await connect(platform.endpoint("gateway", protocol=4, cert=None, key=None))
    finally:
        await broker.kill()
