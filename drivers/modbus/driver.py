"""The Modbus driver: one link, polled group by group, written to where the technician allows it.

What is always true here: what a poll does is in `poll`, what may be written in `write`; a unit's groups share what is
known of it.
"""

from decimal import Decimal
from typing import ClassVar

from buffer.frame import Frame, Value
from drivers.api import Clock, Driver, Figures, Group, Parked
from drivers.errors import BadAnswer
from drivers.modbus.groups import load, readings
from drivers.modbus.poll import Poll, State, Unit
from drivers.modbus.settings import ModbusLink
from drivers.modbus.wire import Wire
from drivers.modbus.write import order


class ModbusDriver(Driver[ModbusLink]):
    """Polls the units of one wire."""

    Settings: ClassVar = ModbusLink

    def __init__(self, name: str, link: ModbusLink, clock: Clock) -> None:
        super().__init__(name, link, clock)
        self._readings = readings(name, link)
        self.groups = tuple(reading.group for reading in self._readings)
        self._units = {device: Unit(settings) for device, settings in link.devices.items()}
        self._states = {
            (reading.group.device, reading.group.layout.every_ns): State(reading, self._units[reading.group.device])
            for reading in self._readings
        }
        self._wire = Wire(link)

    async def open(self) -> None:
        """Open the wire. Raises LinkDown."""
        await self._wire.open()

    async def close(self) -> None:
        """Close the wire and free the port."""
        self._wire.close()

    def figures(self) -> Figures:
        """Give what the wire carried, as a whole and for each device; two devices of one unit share its figures."""
        return self._wire.figures({name: device.unit for name, device in self.link.devices.items()})

    async def poll(self, group: Group) -> Frame:
        """Ask for every point of a group, once. Raises LinkDown, NoAnswer, BadAnswer."""
        state = self._states[group.device, group.layout.every_ns]
        return await Poll(self._wire, self.clock, state, self.link.timeout).run()

    async def write(self, device: str, point: str, value: Decimal) -> Value:
        """Write an engineering value; give the raw value read back.

        Raises WriteRefused before anything is sent; LinkDown, NoAnswer or BadAnswer where it is not known to hold.
        """
        settings = self.link.devices.get(device)
        told = order(device, settings, point, value)
        said = await self._wire.tell(told.unit, told.pdu)
        if said.exception:
            raise BadAnswer("modbus.write-rejected", point=point, unit=told.unit, exception=said.exception)
        reply = await self._wire.ask(told.unit, told.read_back)
        found = None if reply.exception else told.decode(reply.data)[0]
        if reply.exception or not told.holds(reply.data):
            raise BadAnswer("modbus.write-unconfirmed", point=point, unit=told.unit, wrote=told.raw, found=found)
        return found

    def parked(self) -> tuple[Parked, ...]:
        """Give what units refuse."""
        return tuple(parked for device in self._units for parked in self._parked(device))

    def _parked(self, device: str) -> list[Parked]:
        held = self._units[device].parking.held()
        points = self.link.devices[device].points if held else {}
        found = []
        for span, exception in held:
            names = tuple(name for name, point in points.items() if (*point.place, point.width) == tuple(span))
            reason = "modbus.parked-address" if exception == 2 else "modbus.parked-quantity"
            found.append(Parked(device, span.table, span.address, span.width, names, reason))
        return found

    def planned_load(self) -> float | None:
        """Give the share of a serial line's time that the groups need; a network is not ours alone."""
        return None if self.link.serial is None else load(self._readings)
