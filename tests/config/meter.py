"""A driver's model that the tests of this floor judge by, and the shortest file that uses it."""

from dataclasses import dataclass
from typing import Annotated, Literal

from config.model import Device, Link, Point, Secret, Serial
from config.shape import Between, Key, Length, Pattern, Wrong


@dataclass(frozen=True, slots=True, kw_only=True)
class MeterPoint(Point):
    """A point with an address, and a key that takes two forms."""

    holding: Annotated[int, Between(0)]
    order: Literal["ABCD", "CDAB"] = "ABCD"
    filter: Literal["auto"] | Annotated[int, Between(le=9)] | dict[str, int] = "auto"
    deadband: float = 0.0
    limits: tuple[int, ...] = ()
    tag: Annotated[str, Length(2, 4), Pattern("^[A-Z]+$")] = "AA"

    def __post_init__(self):
        """Refuse two numbers."""
        if self.holding == 13:
            raise Wrong("config.bad-number", why="unlucky")
        if self.holding == 14:
            raise ValueError("after thirteen")


@dataclass(frozen=True, slots=True, kw_only=True)
class MeterDevice(Device[MeterPoint]):
    """A device with a password and an aliased key."""

    unit: int
    password: Secret | None = None
    manual: Annotated[int | None, Key("register")] = None
    on: bool = True


@dataclass(frozen=True, slots=True, kw_only=True)
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
