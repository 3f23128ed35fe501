"""What the chaos suites build on: the real agent as a process, real instruments, a real broker, a platform that proves.

What is always true here:

- Every answer of an instrument carries its own number, and the instrument keeps the list of those it gave: what is
  lost is counted from what was really served.
- The file is read and proven by this process, never by the agent.
- Whatever happens, no process, no mount and no loop device is left behind.
"""

import asyncio
import contextlib
import json
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self

from ports import quiet_port
from ruamel.yaml import YAML

from agent import control
from agent.broker import Endpoint, Message, Session, connect
from agent.demo.brokers import Mosquitto
from agent.demo.certificates import Authority
from agent.demo.evidence import Evidence
from agent.errors import NotRunning
from agent.owner import in_daemon
from agent.receiver import Opened, Receiver
from buffer.block import FLAG_VOLATILE, Block, Header
from buffer.errors import BufferUnreadable
from buffer.frame import Event, Layout
from buffer.keys import key_path, load_or_create
from buffer.layout import decode_catalogue, decode_layout
from buffer.store import Reader
from buffer.verify import Report, Verifier, payload_of
from drivers.simulated.modbus_tcp import ModbusTcpInstrument
from drivers.simulated.replay import Recording, read_recording
from drivers.simulated.served import Served

GATEWAY = "outstation-1"
DATA = Path(__file__).parent / "data"
PATIENCE = "30s"
"""How long an answer is waited for: each that was served counts, however long it was under way on a busy machine."""
STREAMS = {"basin": "environment", "press": "production"}
"""The stream of each device."""
Identity = tuple[str, bytes, int]
"""Stream, epoch and number."""


@dataclass
class Contents:
    """What a buffer file holds, and the proof of it."""

    report: Report
    headers: dict[str, list[Header]] = field(default_factory=dict)
    digests: dict[str, list[bytes]] = field(default_factory=dict)
    events: dict[str, list[Event]] = field(default_factory=dict)
    numbers: dict[str, set[int]] = field(default_factory=dict)
    evicted: int = 0
    """Blocks whose payload went to make room; that an event says so is in the report."""

    def identities(self) -> dict[Identity, bytes]:
        """Give the digest of every block by its identity."""
        return {
            (stream, header.epoch, header.seq): digest
            for stream, digests in self.digests.items()
            for header, digest in zip(self.headers[stream], digests, strict=True)
        }


class _Watching(Verifier):
    """A verifier that keeps what it was fed, by identity."""

    def __init__(self, trusted: list[bytes]) -> None:
        super().__init__(trusted, remember=True)
        self.seen: dict[Identity, bytes] = {}
        self.twice: list[Identity] = []
        self.volatile = 0

    def feed(self, envelope: bytes, payload: bytes | None, at: object = None) -> Header | None:
        """Take a block, and remember it."""
        header = super().feed(envelope, payload, at)
        if header is not None:
            digest = Block(envelope, payload).digest
            identity = header.stream, header.epoch, header.seq
            if self.seen.setdefault(identity, digest) != digest:
                self.twice.append(identity)
            self.volatile += bool(header.flags & FLAG_VOLATILE)
        return header


class Platform:
    """The receiving side: every block that came, the numbers in them, the events, and the last word of `state`."""

    def __init__(self, endpoint: Endpoint, state: Endpoint, public_key: bytes) -> None:
        self.verifier = _Watching([public_key])
        self.evidence = Evidence()
        self.events: list[tuple[str, Event]] = []
        self.states: list[tuple[float, dict[str, Any]]] = []
        self._endpoint = state
        self._receiver = Receiver(endpoint, f"trambien/v1/{GATEWAY}", self.verifier, self._opened)

    def _opened(self, opened: Opened) -> None:
        self.evidence.add(opened)
        self.events += [(opened.header.stream, event) for event in opened.payload.events]

    def told(self, kind: str) -> list[Event]:
        """Give the events of a type."""
        return [event for _, event in self.events if event.type == kind]

    async def run(self) -> None:
        """Listen until cancelled."""
        async with await connect(self._endpoint) as session:
            await self._hear_state(session)
            await self._receiver.run()

    async def _hear_state(self, session: Session) -> None:
        session.on_message = self._state
        await session.subscribe(f"trambien/v1/{GATEWAY}/state")

    def _state(self, message: Message) -> None:
        self.states.append((time.monotonic(), json.loads(message.payload)))


class Outstation:
    """A station whose buffer is at `buffer`. Use as an asynchronous context manager; the agent is started apart."""

    def __init__(self, directory: Path, buffer: Path, *, every: str = "100ms", seal_every: str = "300ms") -> None:
        self.directory = directory
        self.buffer = buffer
        self._every = every
        self._seal_every = seal_every
        self._config = directory / "gateway.yaml"
        self._process: asyncio.subprocess.Process | None = None
        recording: Recording = read_recording(DATA / "wwtp.csv")
        self.instruments = {name: ModbusTcpInstrument(recording) for name in STREAMS}

    async def __aenter__(self) -> Self:
        """Switch everything on but the agent."""
        authority = Authority(self.directory / "tls")
        self._broker = Mosquitto(self.directory, authority, quiet_port())
        self.key, _ = load_or_create(key_path(self.buffer))
        async with contextlib.AsyncExitStack() as stack:
            for instrument in self.instruments.values():
                stack.push_async_callback(instrument.stop)
                await instrument.start()
            stack.push_async_callback(self._broker.kill)
            await self._broker.start()
            self._write(authority)
            endpoints = [self._endpoint(authority, name) for name in ("platform", "state")]
            self.platform = Platform(*endpoints, self.key.public_key)
            listening = asyncio.create_task(self.platform.run(), name="platform")
            stack.callback(listening.cancel)
            stack.push_async_callback(self.kill)
            self._stack = stack.pop_all()
        return self

    async def __aexit__(self, *_: object) -> None:
        """Switch everything off."""
        await self._stack.aclose()

    def _endpoint(self, authority: Authority, name: str) -> Endpoint:
        pair = authority.issue(name)
        return Endpoint("localhost", self._broker.port, name, str(authority.ca), str(pair.cert), str(pair.key))

    def _write(self, authority: Authority) -> None:
        pair = authority.issue(GATEWAY)
        tls = {"ca": str(authority.ca), "cert": str(pair.cert), "key": str(pair.key)}
        links = {}
        for name, instrument in self.instruments.items():
            links[f"wire-{name}"] = link = instrument.link(name, self._every)
            link["devices"][name]["stream"] = STREAMS[name]
            link |= {"timeout": PATIENCE, "timeout_min": PATIENCE}
        document = {
            "gateway": {"id": GATEWAY, "name": "Trạm thử", "language": "en"},
            "uplinks": {"province": {"url": f"mqtts://localhost:{self._broker.port}", "tls": tls}},
            "buffer": {"path": str(self.buffer), "seal_every": self._seal_every, "reserve": "1MB"},
            "links": links,
        }
        with self._config.open("w", encoding="utf-8") as file:
            YAML(typ="safe", pure=True).dump(document, file)

    # -- the agent ---------------------------------------------------------------------------------------------------

    @property
    def returncode(self) -> int | None:
        """How the agent's process ended; None while it runs."""
        assert self._process is not None
        return self._process.returncode

    @property
    def pid(self) -> int:
        """The agent's process."""
        assert self._process is not None
        return self._process.pid

    async def start(self) -> None:
        """Start the agent and do not wait for it."""
        command = (sys.executable, "-m", "agent", "run", "-c", str(self._config))
        with (self.directory / "agent.log").open("ab") as log:
            self._process = await asyncio.create_subprocess_exec(*command, stdout=log, stderr=log)

    async def kill(self) -> int:
        """Kill the agent with SIGKILL; give the boot time at which it was dead for certain."""
        if self._process is not None and self._process.returncode is None:
            self._process.kill()
            await self._process.wait()
        return time.clock_gettime_ns(time.CLOCK_BOOTTIME)

    async def leave(self) -> int:
        """Ask the agent to leave; give its exit code."""
        assert self._process is not None
        self._process.terminate()
        return await asyncio.wait_for(self._process.wait(), 60)

    async def status(self) -> dict[str, Any] | None:
        """Ask the agent for its state; None where it does not answer."""
        with contextlib.suppress(NotRunning):
            return await in_daemon("status", lambda: control.ask(control.socket_path(self.buffer), "status"))
        return None

    async def drained(self) -> None:
        """Wait until the platform has acknowledged everything but what was sealed just now."""

        async def dry() -> bool:
            status = await self.status()
            if status is None or not status["uplinks"]["province"]["connected"]:
                return False
            return all(pending <= 1 for pending in status["uplinks"]["province"]["pending"].values())

        async with asyncio.timeout(60):
            while not await dry():
                await asyncio.sleep(0.1)

    async def heard(self, contents: "Contents") -> None:
        """Wait until the platform has heard all that a file holds: what was acknowledged may be on its way to it."""
        with contextlib.suppress(TimeoutError):  # what it lacks then is seen by whoever compares
            async with asyncio.timeout(30):
                while not contents.identities().keys() <= self.platform.verifier.seen.keys():
                    await asyncio.sleep(0.05)

    def served_between(self) -> tuple[int, int]:
        """Give the boot times of the first and the last answer of any instrument."""
        times = [one.t_boot_ns for served in self.served.values() for one in served]
        return min(times), max(times)

    def log(self) -> str:
        """Give what the agent wrote to its log."""
        return (self.directory / "agent.log").read_text()

    # -- what is there -----------------------------------------------------------------------------------------------

    @property
    def served(self) -> dict[str, list[Served]]:
        """Give what each instrument served, by device."""
        return {name: instrument.served for name, instrument in self.instruments.items()}

    def read(self) -> Contents:
        """Read and prove the file; a file in which nothing was made yet is an empty one."""
        try:
            return read_contents(self.buffer, self.key.public_key)
        except BufferUnreadable:
            return Contents(Verifier([]).report())

    def unaccounted(self, contents: Contents) -> dict[str, list[Served]]:
        """Give what was served and is not in the file, by device; where payloads were evicted, nor at the platform."""
        delivered = self.platform.evidence.numbers if contents.evicted else {}
        found = {name: {*contents.numbers.get(name, ()), *delivered.get(name, ())} for name in self.served}
        return {name: [one for one in served if one.serial not in found[name]] for name, served in self.served.items()}


def read_contents(path: Path, public_key: bytes) -> Contents:
    """Read and prove a buffer file."""
    verifier, evidence = Verifier([public_key]), Evidence()
    contents = Contents(verifier.report())
    with contextlib.closing(Reader(path)) as reader:
        for stream in reader.streams():
            for position, block in reader.blocks(stream):
                header = verifier.feed(block.envelope, block.payload, position)
                assert header is not None, f"{stream}/{position} is not proven"
                assert header.seq == position
                encoded = [
                    reader.layout(one) for one in decode_catalogue(reader.catalogue(header.catalogue) or b"\x80")
                ]
                layouts = tuple(decode_layout(layout) for layout in encoded if layout is not None)
                contents.headers.setdefault(stream, []).append(header)
                contents.digests.setdefault(stream, []).append(block.digest)
                if block.payload is None:
                    contents.evicted += 1
                    continue
                payload = payload_of(block, header, layouts)
                evidence.add(Opened(header, layouts, payload))
                contents.events.setdefault(stream, []).extend(payload.events)
    contents.report = verifier.report()
    contents.numbers = dict(evidence.numbers)
    return contents


def _layouts(reader: Reader, digest: bytes) -> tuple[Layout, ...]:
    catalogue = reader.catalogue(digest)
    assert catalogue is not None
    encoded = [reader.layout(identity) for identity in decode_catalogue(catalogue)]
    return tuple(decode_layout(layout) for layout in encoded if layout is not None)


# -- media -----------------------------------------------------------------------------------------------------------


def run(*command: str) -> subprocess.CompletedProcess[str]:
    """Run a command; give what it said."""
    return subprocess.run(command, check=True, capture_output=True, text=True)


@contextlib.contextmanager
def ext4(directory: Path, mebibytes: int = 24, block_bytes: int = 4096) -> Iterator[Path]:
    """Give a mounted ext4 file system of its own on a loop device; nothing is left of it.

    Its blocks are those of any larger one. With smaller blocks than a page of memory, a full disk kills whoever maps a
    file with holes (SIGBUS), as SQLite does with its index.
    """
    image, mount = directory / "image", directory / "mount"
    mount.mkdir()
    with image.open("wb") as file:
        file.truncate(mebibytes << 20)
    run("mkfs.ext4", "-q", "-F", "-b", str(block_bytes), "-E", "lazy_itable_init=0", str(image))
    run("mount", "-o", "loop", str(image), str(mount))
    try:
        yield mount
    finally:
        unmount(mount)


@contextlib.contextmanager
def tmpfs(directory: Path, mebibytes: int = 8) -> Iterator[Path]:
    """Give a mounted file system in memory of so many bytes."""
    mount = directory / "mount"
    mount.mkdir()
    run("mount", "-t", "tmpfs", "-o", f"size={mebibytes}m", "tmpfs", str(mount))
    try:
        yield mount
    finally:
        unmount(mount)


def unmount(mount: Path) -> None:
    """Unmount all that is mounted there, whoever still holds it."""
    while subprocess.run(["mountpoint", "-q", str(mount)], check=False).returncode == 0:
        run("umount", "-l", str(mount))
