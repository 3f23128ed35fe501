"""An OPC UA instrument: a real server whose variables replay a recording, and which counts what its client took.

What is always true here:

- The variable `Serial` grows by one with every row written; row n carries serial n.
- `served` holds a serial once its notification was *acknowledged*: the client sent the sequence number of the message
  that carried it back with a later Publish request (OPC UA Part 4, 5.14.5). It proves that the client had received
  and handled that message; what was sent and not yet acknowledged is not in it. So a client may have read more than
  was served (the last message before it was killed), and a client that acknowledges what it took has lost nothing
  if it can show every serial in `served`.
- A serial is counted once, however many subscriptions were told of it.
- Clients may come, go and be killed.
"""

import asyncio
import logging
import socket
import time
from collections.abc import Callable, Iterable, Iterator
from datetime import UTC, datetime
from typing import Any, NamedTuple

from asyncua import Server, ua
from asyncua.server.subscription_service import SubscriptionService

from drivers.simulated.replay import Recording
from drivers.simulated.served import Served

NAMESPACE = "urn:trambien:plant"
_SERIAL = "Serial"


class Variable(NamedTuple):
    """One variable node, the column of the recording it replays, and the engineering unit."""

    name: str
    column: str
    unit: str


PUMP = (
    Variable("Pump.Current", "Current", "A"),
    Variable("Pump.Pressure", "Pressure", "bar"),
    Variable("Pump.Temperature", "Temperature", "degC"),
    Variable("Pump.Thermocouple", "Thermocouple", "degC"),
    Variable("Pump.Voltage", "Voltage", "V"),
    Variable("Pump.Flow", "Volume Flow RateRMS", "L/min"),
)
"""A pump rig, over the columns of the recording `skab`."""


class OpcUaInstrument:
    """A server at `url`; port 0 takes a free one. It writes a row each `period_s`, or when told where that is None."""

    def __init__(
        self, recording: Recording, *, host: str = "127.0.0.1", port: int = 0, period_s: float | None = 0.5
    ) -> None:
        self.host = host
        self.port = port
        self.serial = 0
        self.served: list[Served] = []
        self.recording = recording
        self._columns = [recording.names.index(variable.column) for variable in PUMP]
        self._period_s = period_s
        self._counted: set[int] = set()
        self._server: Server | None = None
        self._ids: list[ua.NodeId] = []
        self._writing: asyncio.Task[None] | None = None

    @property
    def url(self) -> str:
        """Where the server is."""
        return f"opc.tcp://{self.host}:{self.port}"

    async def start(self) -> None:
        """Listen and begin to write. Raises OSError where the port is taken."""
        logging.getLogger("asyncua").setLevel(logging.CRITICAL)
        self.port = self.port or _free_port(self.host)
        server = Server()
        await server.init()
        server.set_endpoint(self.url)
        server.set_security_policy([ua.SecurityPolicyType.NoSecurity])
        await self._furnish(server)
        _Acknowledgements(server.iserver.subscription_service, self._acknowledged)
        await server.start()
        self._server = server
        if self._period_s is not None:
            self._writing = asyncio.create_task(self._write_rows(self._period_s), name="opcua-instrument")

    async def _furnish(self, server: Server) -> None:
        index = await server.register_namespace(NAMESPACE)
        plant = await server.nodes.objects.add_folder(index, "Plant")
        self._ids = [ua.NodeId(name, index) for name in (*(variable.name for variable in PUMP), _SERIAL)]
        for node_id in self._ids[:-1]:
            await plant.add_variable(node_id, str(node_id.Identifier), 0.0, ua.VariantType.Double)
        await plant.add_variable(self._ids[-1], _SERIAL, self.serial, ua.VariantType.UInt32)

    def _acknowledged(self, values: Iterable[ua.Variant]) -> None:
        now_ns = time.clock_gettime_ns(time.CLOCK_BOOTTIME)
        for value in values:
            if value.VariantType is ua.VariantType.UInt32 and value.Value and value.Value not in self._counted:
                self._counted.add(value.Value)
                self.served.append(Served(value.Value, now_ns))

    async def stop(self) -> None:
        """Stop writing and hang up on every client; may start again on the same port."""
        server, self._server = self._server, None
        if self._writing is not None:
            self._writing.cancel()
            await asyncio.wait([self._writing])
            self._writing = None
        if server is not None:
            for session in tuple(server.iserver._external_sessions.values()):  # noqa: SLF001 - of killed clients too
                await session.close_session()
            await server.stop()

    async def write_row(self) -> int:
        """Write the next row and give its serial."""
        assert self._server is not None
        self.serial += 1
        row = self.recording.row(self.serial)
        now = datetime.now(UTC)
        for node_id, column in zip(self._ids, self._columns, strict=False):
            await self._server.write_attribute_value(node_id, _measured(row[column], now))
        serial = ua.Variant(self.serial, ua.VariantType.UInt32)
        await self._server.write_attribute_value(self._ids[-1], ua.DataValue(serial, SourceTimestamp=now))
        return self.serial

    async def _write_rows(self, period_s: float) -> None:
        while True:
            await self.write_row()
            await asyncio.sleep(period_s)

    def points(self) -> dict[str, Any]:
        """Give the points that read it, for the technician's file."""
        points: dict[str, Any] = {"serial": {"node": f"nsu={NAMESPACE};s={_SERIAL}", "type": "uint32"}}
        for variable in PUMP:
            name = variable.name.lower().replace(".", "_")
            points[name] = {"node": f"nsu={NAMESPACE};s={variable.name}", "unit": variable.unit}
        return points

    def link(self, device: str = "line", subscribe: str = "500ms") -> dict[str, Any]:
        """Give the link that reads it, for the technician's file."""
        devices = {device: {"subscribe": subscribe, "points": self.points()}}
        return {"driver": "opcua", "url": self.url, "devices": devices}


class _Acknowledgements:
    """Hears of every acknowledged notification before the server forgets it."""

    def __init__(self, service: SubscriptionService, acknowledged: Callable[[Iterable[ua.Variant]], None]) -> None:
        self._service = service
        self._acknowledged = acknowledged
        self._publish: Callable[..., tuple[int, list[ua.StatusCode]]] = service.publish
        service.publish = self.publish

    def publish(self, acks: Iterable[ua.SubscriptionAcknowledgement]) -> tuple[int, list[ua.StatusCode]]:
        for ack in acks:
            self._acknowledged(self._values(ack.SubscriptionId, ack.SequenceNumber))
        return self._publish(acks)

    def _values(self, subscription_id: int, sequence: int) -> Iterator[ua.Variant]:
        subscription = self._service.subscriptions.get(subscription_id)
        result = subscription._not_acknowledged_results.get(sequence) if subscription else None  # noqa: SLF001 - no other way to what was sent
        for notification in result.NotificationMessage.NotificationData if result else ():
            if isinstance(notification, ua.DataChangeNotification):
                yield from (item.Value.Value for item in notification.MonitoredItems)


def _measured(value: float | None, now: datetime) -> ua.DataValue:
    if value is None:
        return ua.DataValue(ua.Variant(), ua.StatusCode(ua.StatusCodes.BadSensorFailure), now)
    return ua.DataValue(ua.Variant(value, ua.VariantType.Double), SourceTimestamp=now)


def _free_port(host: str) -> int:
    with socket.socket() as probe:
        probe.bind((host, 0))
        return int(probe.getsockname()[1])
