"""What the technician may write about instruments that speak lines of text on a serial port.

What is always true here: nothing is opened or compiled. What the keys mean together is judged by the driver's plan.
The keys are explained in README.md beside this file.
"""

from dataclasses import dataclass
from typing import Annotated, Literal

from config.model import Device, Duration, Link, Point, Serial
from config.shape import Between, Length, Strict

LineKind = Literal["text", "int8", "uint8", "int16", "uint16", "int32", "uint32", "int64", "uint64", "float64"]
"""Text on a wire has no width of its own; decimals are always float64, which gives back every 15-digit decimal."""


@dataclass(frozen=True, slots=True, kw_only=True)
class LinePoint(Point):
    """One value of a line: the named group of the pattern that holds it, and what it is."""

    group: str | None = None
    type: LineKind = "float64"


@dataclass(frozen=True, slots=True, kw_only=True)
class LineStatus(Strict):
    """How a line says how good its values are: a named group, and the StatusCode of each text it may hold."""

    group: str
    codes: Annotated[dict[str, str], Length(1)]


@dataclass(frozen=True, slots=True, kw_only=True)
class LineDevice(Device[LinePoint]):
    """One instrument. With `ask` it is polled; without, it speaks by itself."""

    ask: str | None = None
    line: str
    terminator: Annotated[str, Length(1)] = "\n"
    max_line: Annotated[int, Between(1, 65_536)] = 1024
    status: LineStatus | None = None
    silence: Duration | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class SerialLineLink(Link[LineDevice]):
    """One serial port: any number of instruments that are asked, or one that speaks by itself."""

    driver: Literal["serial"] = "serial"
    serial: Serial
