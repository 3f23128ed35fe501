"""A simulated link in the technician's file: waves instead of a wire."""

from decimal import Decimal
from typing import Annotated, Literal, Self

from pydantic import Field, model_validator
from pydantic_core import PydanticCustomError

from config.model import Device, Duration, Exact, Link, Point, parse_duration

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


class SimulatedPoint(Point):
    """A raw value that moves around `level` by `amplitude`, once round in a `period`."""

    wave: Literal["sine", "ramp", "walk", "constant"] = "sine"
    type: Type = "float64"
    level: Exact = "0"
    amplitude: Exact = "1"
    period: Duration = parse_duration("1m")

    @model_validator(mode="after")
    def _computable(self) -> Self:
        if self.scale is not None and not Decimal(self.scale):
            raise PydanticCustomError("simulated.scale-zero", "a scale of zero", {})
        if self.range is not None and Decimal(self.range[0]) > Decimal(self.range[1]):
            low, high = self.range
            raise PydanticCustomError("simulated.range-crossed", "{low} > {high}", {"low": low, "high": high})
        return self


class SimulatedDevice(Device[SimulatedPoint]):
    """Some waves; the same `seed` walks the same way."""

    seed: Annotated[int, Field(ge=0)] = 0


class SimulatedLink(Link[SimulatedDevice]):
    """No wire at all."""

    driver: Literal["simulated"] = "simulated"
