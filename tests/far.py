"""A broker behind a link of its own: mosquitto in a network namespace, and what can be done to the link. Root only."""

import asyncio
import itertools
import os
import shutil
import subprocess
import tempfile
from pathlib import Path
from typing import Self

from agent.broker import Endpoint
from agent.demo.brokers import Mosquitto
from agent.demo.certificates import Authority

_numbers = itertools.count()
"""A namespace that was deleted lives a moment longer: names and addresses are never used twice."""


def why_not() -> str:
    """Say why there can be no namespace here, or nothing."""
    if os.geteuid() != 0:
        return "network namespaces need root"
    if not shutil.which("ip") or not shutil.which("tc"):
        return "iproute2 is not installed"
    if not shutil.which("nft"):
        return "nftables is not installed"
    tried = subprocess.run(["ip", "netns", "add", f"trial{os.getpid()}"], capture_output=True, check=False)
    if tried.returncode:
        return "this kernel or container gives no network namespaces"
    run("ip", "netns", "del", f"trial{os.getpid()}")
    return ""


def run(*command: str) -> None:
    """Run a command that must succeed."""
    subprocess.run(command, check=True, capture_output=True)


class _Mosquitto(Mosquitto):
    """Mosquitto inside the namespace, in plain text: the link is what is looked at."""

    def _command(self) -> list[str]:
        assert self.extra
        config = self._directory / "mosquitto.conf"
        lines = [f"listener {self.port} {self.extra[1]}", "allow_anonymous true", "persistence false", "user root"]
        config.write_text("\n".join(lines) + "\n")
        program = shutil.which("mosquitto") or "/usr/sbin/mosquitto"
        return ["ip", "netns", "exec", self.extra[0], program, "-c", str(config)]


class Far:
    """A namespace with a broker. Use as an asynchronous context manager."""

    def __init__(self, *, ipv6_only: bool = False) -> None:
        number = next(_numbers)
        token = f"{os.getpid() % 10_000}x{number}"
        net = (os.getpid() * 7 + number) % 250
        self._name, self._ours, self._theirs = f"far{token}", f"fa{token}", f"fb{token}"
        self._near, self.host = (
            (f"fd99:{net}::1", f"fd99:{net}::2") if ipv6_only else (f"10.99.{net}.1", f"10.99.{net}.2")
        )
        self._bits = "/64" if ipv6_only else "/30"
        self._nodad = ("nodad",) if ipv6_only else ()

    async def __aenter__(self) -> Self:
        """Make the link and start the broker."""
        self._directory = tempfile.TemporaryDirectory()
        run("ip", "netns", "add", self._name)
        try:
            run("ip", "link", "add", self._ours, "type", "veth", "peer", "name", self._theirs, "netns", self._name)
            run("ip", "addr", "add", self._near + self._bits, "dev", self._ours, *self._nodad)
            run("ip", "-n", self._name, "addr", "add", self.host + self._bits, "dev", self._theirs, *self._nodad)
            keep = f"echo 1 > /proc/sys/net/ipv6/conf/{self._theirs}/keep_addr_on_down"
            run("ip", "netns", "exec", self._name, "sh", "-c", keep)
            run("ip", "link", "set", self._ours, "up")
            run("ip", "-n", self._name, "link", "set", self._theirs, "up")
            path = Path(self._directory.name)
            self._broker = _Mosquitto(path, Authority(path), None)
            self._broker.extra = (self._name, self.host)
            command = self._broker._command()
            self._process = await asyncio.create_subprocess_exec(
                *command, stdout=asyncio.subprocess.DEVNULL, stderr=asyncio.subprocess.DEVNULL
            )
            await self._answers()
        except BaseException:
            run("ip", "netns", "del", self._name)
            raise
        return self

    async def __aexit__(self, *_: object) -> None:
        """Stop the broker and take the link away."""
        self._process.kill()
        await self._process.wait()
        run("ip", "netns", "del", self._name)
        self._directory.cleanup()

    async def _answers(self) -> None:
        async with asyncio.timeout(60):
            while True:
                try:
                    _, writer = await asyncio.open_connection(self.host, self._broker.port)
                except OSError:
                    await asyncio.sleep(0.1)
                else:
                    writer.close()
                    return

    def endpoint(self, **facts: object) -> Endpoint:
        """Give where the broker is."""
        return Endpoint(self.host, self._broker.port, "station-1", **facts)  # type: ignore[arg-type]

    def cap(self, rate: str) -> None:
        """Bound what may pass towards the broker, with a queue of up to four seconds as modems have."""
        run("tc", "qdisc", "replace", "dev", self._ours, "root", "tbf", "rate", rate, "burst", "16kb", "latency", "4s")

    def lose(self, percent: int) -> None:
        """Let the far end drop so many of the packets that come, and of those that go, each by itself; 0 ends it."""
        nft = ("ip", "netns", "exec", self._name, "nft")
        run(*nft, "flush", "ruleset")
        if percent:
            run(*nft, "add", "table", "inet", "loss")
            for hook in ("input", "output"):
                run(*nft, "add", "chain", "inet", "loss", hook, f"{{ type filter hook {hook} priority 0; }}")
                run(
                    *nft,
                    "add",
                    "rule",
                    "inet",
                    "loss",
                    hook,
                    "numgen",
                    "random",
                    "mod",
                    "100",
                    "<",
                    str(percent),
                    "drop",
                )

    def blackhole(self) -> None:
        """Let the broker's answers vanish: the connection is half open."""
        run("ip", "-n", self._name, "route", "add", "blackhole", f"{self._near}/{128 if self._nodad else 32}")

    def heal(self) -> None:
        """Let them through again."""
        run("ip", "-n", self._name, "route", "del", "blackhole", f"{self._near}/{128 if self._nodad else 32}")

    def flap(self, *, up: bool) -> None:
        """Take the far end of the link up or down."""
        run("ip", "-n", self._name, "link", "set", self._theirs, "up" if up else "down")
