"""The nominal load: 10 Modbus TCP devices of 100 registers at 1 s, durable, signed, TLS, 1 s seal.

`python tests/speed/nominal.py [SECONDS] [--every 1s] [--profile FILE]` prints what the agent's process cost, as the
kernel accounts for it, and what it wrote; with `--profile`, a cProfile of its event loop's thread is left in FILE.
"""

import argparse
import asyncio
import json
import os
import resource
import socket
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from agent import control
from agent.broker import Endpoint
from agent.demo.brokers import Mosquitto
from agent.demo.certificates import Authority
from agent.receiver import Receiver
from buffer.keys import load_or_create
from buffer.verify import Verifier

DEVICES = 10
REGISTERS = 100
TICKS = os.sysconf("SC_CLK_TCK")
PROFILED = """
import asyncio, cProfile, sys
from agent import service
profile = cProfile.Profile()
code = profile.runcall(service.main, ["-c", sys.argv[1]])
profile.dump_stats(sys.argv[2])
sys.exit(code)
"""


def free_ports(count: int) -> list[int]:
    """Find free ports."""
    probes = [socket.create_server(("127.0.0.1", 0)) for _ in range(count)]
    ports = [probe.getsockname()[1] for probe in probes]
    for probe in probes:
        probe.close()
    return ports


def link(number: int, port: int, every: str) -> dict[str, object]:
    """Give the link of one device."""
    points = {f"r{n}": {"input": n, "type": "uint16"} for n in range(REGISTERS)}
    devices = {f"device-{number}": {"unit": 1, "every": every, "points": points}}
    return {"driver": "modbus", "host": "127.0.0.1", "port": port, "devices": devices}


def configuration(directory: Path, ports: list[int], every: str, broker: Mosquitto, authority: Authority) -> Path:
    """Write the file of the nominal load."""
    pair = authority.issue("station-1")
    links = {f"link-{n}": link(n, port, every) for n, port in enumerate(ports)}
    tls = {"ca": str(authority.ca), "cert": str(pair.cert), "key": str(pair.key)}
    document = {
        "gateway": {"id": "station-1"},
        "uplinks": {"province": {"url": f"mqtts://localhost:{broker.port}", "tls": tls}},
        "buffer": {"path": str(directory / "buffer.db"), "seal_every": "1s"},
        "links": links,
    }
    path = directory / "gateway.yaml"
    path.write_text(json.dumps(document))
    return path


def spent(pid: int) -> tuple[float, int, int]:
    """Give CPU seconds, resident kilobytes, and bytes written to the device, of a process."""
    fields = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
    status = dict(line.split(":", 1) for line in Path(f"/proc/{pid}/status").read_text().splitlines())
    written = dict(line.split(": ") for line in Path(f"/proc/{pid}/io").read_text().splitlines())["write_bytes"]
    return (int(fields[11]) + int(fields[12])) / TICKS, int(status["VmRSS"].split()[0]), int(written)


async def measure(seconds: float, every: str, profile: Path | None) -> dict[str, float]:
    """Run the load for so long after a warm-up of ten seconds."""
    with tempfile.TemporaryDirectory() as temporary:
        directory = Path(temporary)
        authority = Authority(directory / "tls")
        broker = Mosquitto(directory, authority, None)
        await broker.start()
        ports = free_ports(DEVICES)
        registers = subprocess.Popen([sys.executable, str(Path(__file__).with_name("registers.py")), *map(str, ports)])
        config = configuration(directory, ports, every, broker, authority)
        key, _ = load_or_create(directory / "device.key")
        pair = authority.issue("platform")
        endpoint = Endpoint("localhost", broker.port, "platform", str(authority.ca), str(pair.cert), str(pair.key))
        receiver = Receiver(endpoint, "trambien/v1/station-1", Verifier([key.public_key], whole=False))
        receiving = asyncio.create_task(receiver.run())
        await asyncio.sleep(1)
        command = [sys.executable, "-m", "agent", "run", "-c", str(config)]
        if profile:
            command = [sys.executable, "-c", PROFILED, str(config), str(profile)]
        agent = subprocess.Popen(command, stderr=subprocess.DEVNULL)
        try:
            await asyncio.sleep(10)
            before, began = spent(agent.pid), time.monotonic()
            state = control.ask(control.socket_path(directory / "buffer.db"), "status")
            await asyncio.sleep(seconds)
            after, ended = spent(agent.pid), time.monotonic()
            last = control.ask(control.socket_path(directory / "buffer.db"), "status")
        finally:
            agent.terminate()
            agent.wait(10)
            receiving.cancel()
            registers.kill()
            await broker.kill()
        readings = last["streams"]["main"]["readings"] - state["streams"]["main"]["readings"]
        sent = last["uplinks"]["province"]["bytes_sent"] - state["uplinks"]["province"]["bytes_sent"]
        return {
            "readings_per_s": readings / (ended - began),
            "cpu_percent": 100 * (after[0] - before[0]) / (ended - began),
            "cpu_us_per_reading": 1e6 * (after[0] - before[0]) / readings,
            "rss_mb": after[1] / 1000,
            "payload_bytes_per_reading": sent / readings,
            "flash_bytes_per_reading": (after[2] - before[2]) / readings,
            "missed": last["streams"]["main"]["ticks_missed"],
            "pending": sum(last["uplinks"]["province"]["pending"].values()),
        }


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("seconds", type=float, nargs="?", default=30)
    parser.add_argument("--every", default="1s", help="the interval of every device")
    parser.add_argument("--profile", type=Path)
    options = parser.parse_args()
    resource.setrlimit(resource.RLIMIT_NOFILE, (4096, 4096))
    for name, value in asyncio.run(measure(options.seconds, options.every, options.profile)).items():
        print(f"{name:28} {value:10.3f}")
