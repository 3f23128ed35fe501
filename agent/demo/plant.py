"""The demonstration's plant: four real instruments that replay recorded data, and the file that reads them.

| device | what it is | stream |
|---|---|---|
| `plant` | Modbus TCP server: a wastewater plant, 12 channels | environment |
| `pump` | Modbus RTU slave on a pseudo-terminal: a pump rig | production |
| `line` | OPC UA server, subscribed: the same rig's other channels | production |
| `gauge` | serial instrument on a pseudo-terminal, asked for a line | environment |

Every answer of each carries its own number in the point `serial`; `served` lists those that were really given.
"""

import asyncio
import io
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import count
from pathlib import Path
from typing import Any, Protocol

from ruamel.yaml import YAML

from drivers.api import Clock
from drivers.simulated.modbus_rtu import ModbusRtuInstrument
from drivers.simulated.modbus_tcp import ModbusTcpInstrument
from drivers.simulated.opcua_server import OpcUaInstrument
from drivers.simulated.replay import Recording, read_recording
from drivers.simulated.serial_instrument import SerialInstrument
from drivers.simulated.served import Served

GATEWAY = "demo-station"
EVERY_S = 1
ROW_EVERY_S = 0.5
SEAL_EVERY_S = 1
TIMEOUT_S = 3
RECORDINGS = ("wwtp.csv", "skab.csv")
STREAMS = ("environment", "production", "production", "environment")
GAUGE_NAMES = ("TSS_line3", "Turb_line2")


class Instrument(Protocol):
    """What is common to the four."""

    served: list[Served]

    async def start(self) -> None:
        """Switch on."""

    async def stop(self) -> None:
        """Switch off."""


@dataclass(frozen=True, slots=True)
class Access:
    """How the agent reaches the platform: the broker's port and MQTT version, and the files it proves itself with.

    `accept` is what it takes from the platform.
    """

    port: int
    mqtt: str
    ca: Path
    cert: Path
    key: Path
    accept: tuple[str, ...] = ()


class Plant:
    """The four instruments."""

    def __init__(self, recordings: Path, clock: Clock) -> None:
        wwtp, skab = (read_recording(recordings / name) for name in RECORDINGS)
        self._plant = ModbusTcpInstrument(wwtp)
        self._pump = ModbusRtuInstrument(skab)
        self._line = OpcUaInstrument(skab, period_s=None)
        self._gauge = SerialInstrument(_rows(wwtp), GAUGE_NAMES, clock.boot_ns, ask=b"READ\r\n")
        self._writing: asyncio.Task[None] | None = None
        self._instruments: dict[str, Instrument] = {
            "plant": self._plant,
            "pump": self._pump,
            "line": self._line,
            "gauge": self._gauge,
        }

    @property
    def served(self) -> Mapping[str, list[Served]]:
        """Give what each instrument served so far."""
        return {name: instrument.served for name, instrument in self._instruments.items()}

    async def start(self) -> None:
        """Switch everything on."""
        for instrument in self._instruments.values():
            await instrument.start()
        self._writing = asyncio.create_task(self._write_rows(), name="opcua rows")

    async def quiet(self) -> None:
        """Let the instrument that speaks by itself say no more, so that nothing is under way when the agent leaves."""
        if self._writing is not None:
            self._writing.cancel()
            await asyncio.wait([self._writing])

    async def stop(self) -> None:
        """Switch everything off."""
        await self.quiet()
        for instrument in self._instruments.values():
            await instrument.stop()

    async def _write_rows(self) -> None:
        while True:
            await self._line.write_row()
            await asyncio.sleep(ROW_EVERY_S)

    def configuration(self, buffer: Path, access: Access, plant_every: str = f"{EVERY_S}s") -> bytes:
        """Write the technician's file; `plant_every` is how often the first instrument is asked."""
        document = {
            "gateway": {
                "id": GATEWAY,
                "name": "Trạm biên trình diễn",
                "language": "vi",
                "watch": {"every": "5s", "stream": "environment"},
            },
            "uplinks": {
                "province": {
                    "url": f"mqtts://localhost:{access.port}",
                    "mqtt": access.mqtt,
                    "accept": list(access.accept),
                    "tls": {"ca": str(access.ca), "cert": str(access.cert), "key": str(access.key)},
                }
            },
            "buffer": {"path": str(buffer), "seal_every": f"{SEAL_EVERY_S}s"},
            "links": self._links(plant_every),
        }
        yaml = YAML(typ="safe", pure=True)
        yaml.default_flow_style = False
        yaml.allow_unicode = True
        written = io.BytesIO()
        yaml.dump(document, written)
        return written.getvalue()

    def _links(self, plant_every: str) -> dict[str, Any]:
        links = {
            "ethernet": self._plant.link("plant", plant_every),
            "bus-1": self._pump.link("pump", f"{EVERY_S}s"),
            "plc": self._line.link("line", "500ms"),
            "gauges": self._gauge_link(),
        }
        for stream, link in zip(
            ("environment", "production", "production", "environment"), links.values(), strict=True
        ):
            link["timeout"] = f"{TIMEOUT_S}s"
            for device in link["devices"].values():
                device["stream"] = stream
        return links

    def _gauge_link(self) -> dict[str, Any]:
        points = {"serial": {"type": "uint32"}, **{name.lower(): {"group": name} for name in GAUGE_NAMES}}
        device = {
            "ask": "READ\r\n",
            "every": f"{EVERY_S}s",
            "line": self._gauge.pattern,
            "status": {"group": "status", "codes": {"ST": "Good", "OL": "BadSensorFailure"}},
            "points": points,
        }
        return {"driver": "serial", "serial": {"port": self._gauge.port}, "devices": {"gauge": device}}


def find_recordings(directory: Path | None) -> Path | None:
    """Find the recorded data: where it is said to be, or in this checkout; they are not part of an installation."""
    candidates = [directory] if directory else [Path(__file__).parents[2] / "tests" / "data"]
    for candidate in candidates:
        if all((candidate / name).is_file() for name in RECORDINGS):
            return candidate
    return None


def _rows(recording: Recording) -> Iterator[Mapping[str, float | None]]:
    for number in count():
        yield dict(zip(recording.names, recording.row(number), strict=True))
