"""A driver's model that the tests of this floor judge by, and the shortest file that uses it."""

from typing import Annotated, Literal

from pydantic import Field, model_validator
from pydantic_core import PydanticCustomError

from config.model import Device, Link, Point, Secret, Serial


class MeterPoint(Point):
    """A point with an address, and a key that takes two forms."""

    holding: Annotated[int, Field(ge=0)]
    order: Literal["ABCD", "CDAB"] = "ABCD"
    filter: Literal["auto"] | Annotated[int, Field(le=9)] | dict[str, int] = "auto"
    deadband: float = 0.0
    limits: tuple[int, ...] = ()
    tag: Annotated[str, Field(min_length=2, max_length=4, pattern="^[A-Z]+$")] = "AA"

    @model_validator(mode="after")
    def _judge(self):
        if self.holding == 13:
            raise PydanticCustomError("config.bad_number", "thirteen", {"why": "unlucky"})
        if self.holding == 14:
            raise ValueError("after thirteen")
        return self


class MeterDevice(Device[MeterPoint]):
    """A device with a password and an aliased key."""

    unit: int
    password: Secret | None = None
    manual: int | None = Field(None, alias="register")
    on: bool = True


class MeterLink(Link[MeterDevice]):
    """A link of meters."""

    serial: Serial | None = None


HEAD = "gateway: {id: a-1}\n"
LINKS = """links:
  bus:
    driver: meter
    devices:
      m: {unit: 3, points: {p: {holding: 1}}}
"""


def settings_for(name):
    """Know one driver."""
    return MeterLink if name == "meter" else None
