"""Changes of OPC UA: what the station spends on one, beside asyncua's own client with the same server in the same run.

`python -m speed.opcua serve PORT NODES PER_S` is the server; `python -m speed.opcua client PORT NODES OUT` the bare
client, which counts what it hears and keeps nothing.

What is always true here:

- Both get the same changes at the same time, each over a subscription of its own.
- A ceiling is what one core of the client allows: one over the CPU a change. The server is a process of its own, and on
  two cores it is the first to be full, so the rate that is reached says more of it than of the clients.
"""

import asyncio
import logging
import signal
import sys
import time
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, NamedTuple

from asyncua import Client, Node, Server, ua
from speed.machine import calibrate_ms, free_ports, python, spent, stop
from speed.site import Site, station

NAMESPACE = "urn:trambien:speed"
PUBLISH_MS = 200
NODES = 100


class Changes(NamedTuple):
    """What came of one run: microseconds of CPU a change, ours and asyncua's own, and changes a second of each."""

    cpu_us: float
    bare_us: float
    per_s: float
    bare_per_s: float
    written_per_s: float
    calibration_ms: float


async def serve(port: int, nodes: int, per_s: float, out: Path) -> None:
    """Serve variables and write them all, again and again, until killed; `out` says how many so far."""
    logging.getLogger("asyncua").setLevel(logging.CRITICAL)
    server = Server()
    await server.init()
    server.set_endpoint(f"opc.tcp://127.0.0.1:{port}")
    server.set_security_policy([ua.SecurityPolicyType.NoSecurity])
    index = await server.register_namespace(NAMESPACE)
    made = [await server.nodes.objects.add_variable(ua.NodeId(f"v{n}", index), f"v{n}", 0.0) for n in range(nodes)]
    async with server:
        written, began_s = 0, time.monotonic()
        while True:
            for number, node in enumerate(made):
                value = ua.DataValue(ua.Variant(written + number / 7, ua.VariantType.Double))
                await server.write_attribute_value(node.nodeid, value)
            written += nodes
            out.write_text(str(written))
            await asyncio.sleep(max(0.0, began_s + written / per_s - time.monotonic()))


class _Counter:
    """The handler that asyncua calls."""

    def __init__(self) -> None:
        self.heard = 0

    def datachange_notification(self, _node: Node, _value: object, _data: object) -> None:
        """Count a change."""
        self.heard += 1


async def listen(port: int, nodes: int, out: Path) -> None:
    """Subscribe with asyncua alone, until SIGTERM."""
    logging.getLogger("asyncua").setLevel(logging.CRITICAL)
    stopped = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stopped.set)
    async with Client(f"opc.tcp://127.0.0.1:{port}") as client:
        index = await client.get_namespace_index(NAMESPACE)
        counter = _Counter()
        subscription = await client.create_subscription(PUBLISH_MS, counter)
        wanted = [client.get_node(ua.NodeId(f"v{n}", index)) for n in range(nodes)]
        await subscription.subscribe_data_change(wanted, queuesize=100)
        while not stopped.is_set():
            out.write_text(str(counter.heard))
            await asyncio.sleep(0.05)


def link(port: int, nodes: int) -> dict[str, Any]:
    """Give the link that subscribes to the same."""
    points = {f"v{n}": {"node": f"nsu={NAMESPACE};s=v{n}"} for n in range(nodes)}
    devices = {"line": {"subscribe": f"{PUBLISH_MS}ms", "points": points}}
    return {"plc": {"driver": "opcua", "url": f"opc.tcp://127.0.0.1:{port}", "devices": devices}}


@asynccontextmanager
async def _process(*arguments: str) -> Any:
    process = python("-m", "speed.opcua", *arguments)
    try:
        yield process
    finally:
        stop(process)


async def changes(around: Site, name: str, per_s: float, warm_s: float, seconds: float) -> Changes:
    """Run both beside one server that writes so many changes a second, or as many as it can."""
    port, folder = free_ports(1)[0], around.directory
    written, heard = folder / f"{name}.written", folder / f"{name}.heard"
    async with _process("serve", str(port), str(NODES), str(per_s), str(written)) as server:
        while server.poll() is None and not written.exists():
            await asyncio.sleep(0.1)
        async with (
            _process("client", str(port), str(NODES), str(heard)) as bare,
            station(around, name, link(port, NODES)) as running,
        ):
            await running.until_measuring()
            while bare.poll() is None and not heard.exists():
                await asyncio.sleep(0.1)
            await asyncio.sleep(warm_s)
            calibration_ms = calibrate_ms()
            before = running.spent(), spent(bare.pid), spent(server.pid)
            counts = [await _counts(running, heard, written)]
            await asyncio.sleep(seconds)
            after = running.spent(), spent(bare.pid), spent(server.pid)
            counts.append(await _counts(running, heard, written))
    took_s = after[0].at_s - before[0].at_s
    ours, bare_heard, wrote = (last - first for first, last in zip(*counts, strict=True))
    cpu_s = [last.cpu_s - first.cpu_s for first, last in zip(before, after, strict=True)]
    return Changes(
        cpu_us=1e6 * cpu_s[0] / max(1, ours),
        bare_us=1e6 * cpu_s[1] / max(1, bare_heard),
        per_s=ours / took_s,
        bare_per_s=bare_heard / took_s,
        written_per_s=wrote / max(cpu_s[2], 1e-9),
        calibration_ms=calibration_ms,
    )


async def _counts(running: Any, heard: Path, written: Path) -> tuple[int, int, int]:
    readings = (await running.status())["streams"]["main"]["readings"]
    return readings, int(heard.read_text() or 0), int(written.read_text() or 0)


if __name__ == "__main__":
    mode, port, nodes, *rest = sys.argv[1:]
    if mode == "serve":
        asyncio.run(serve(int(port), int(nodes), float(rest[0]), Path(rest[1])))
    else:
        asyncio.run(listen(int(port), int(nodes), Path(rest[0])))
