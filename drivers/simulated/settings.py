"""A simulated link in the technician's file: waves instead of a wire."""

from dataclasses import dataclass
from decimal import Decimal
from typing import Annotated, Literal

from config.model import Device, Duration, Exact, Link, Point, parse_duration
from config.shape import Between, Wrong

Type = Literal[
    "bool",
    "int8",
    "uint8",
    "int16",
    "uint16",
    "int32",
    "uint32",
    "int64",
    "uint64",
    "float32",
    "float64",
]


@dataclass(frozen=True, slots=True, kw_only=True)
class SimulatedPoint(Point):
    """A raw value that moves around `level` by `amplitude`, once round in a `period`."""

    wave: Literal["sine", "ramp", "walk", "constant"] = "sine"
    type: Type = "float64"
    level: Exact = "0"
    amplitude: Exact = "1"
    period: Duration = parse_duration("1m")

    def __post_init__(self) -> None:
        """Refuse what cannot be computed."""
        if self.scale is not None and not Decimal(self.scale):
            raise Wrong("simulated.scale-zero")
        if self.range is not None and Decimal(self.range[0]) > Decimal(self.range[1]):
            low, high = self.range
            raise Wrong("simulated.range-crossed", low=low, high=high)


@dataclass(frozen=True, slots=True, kw_only=True)
class SimulatedDevice(Device[SimulatedPoint]):
    """Some waves; the same `seed` walks the same way."""

    seed: Annotated[int, Between(0)] = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class SimulatedLink(Link[SimulatedDevice]):
    """No wire at all."""

    driver: Literal["simulated"] = "simulated"
