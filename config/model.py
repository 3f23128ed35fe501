"""The model of the technician's file: what may stand in it, in which units, and what is assumed where it is silent.

What is always true here:

- Every model is frozen and knows all its keys; an unknown key is a fault.
- Durations are nanoseconds and sizes are bytes once read; in the file they carry units (`5s`, `250ms`, `8GB`, `56kB`).
- Scale, offset and range stay exact text from the file to the layout; nothing is rounded on the way.
- Types are strict: text is never taken for a number or a yes, nor a number for text. A list is read as a tuple.
- A validator that raises a PydanticCustomError whose type has a dot (`modbus.address_twice`) names its own code.
- A driver extends `Link`, `Device` and `Point` with its own keys in its own `settings.py`; this file knows no protocol.
"""

import datetime as dt
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from decimal import Decimal, InvalidOperation
from typing import Annotated, Generic, Literal, Self, TypeVar

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, model_validator
from pydantic_core import PydanticCustomError, PydanticKnownError

from config.files import FilePath

NAME_PATTERN = r"^[a-z0-9][a-z0-9_-]{0,62}$"
"""Names of gateways, streams, links, devices and uplinks; they become topics, so they are plain."""

_NS_PER_UNIT = {"ms": 10**6, "s": 10**9, "m": 60 * 10**9, "h": 3600 * 10**9, "d": 86400 * 10**9}
_BYTES_PER_UNIT = {"B": 1, "kB": 10**3, "MB": 10**6, "GB": 10**9, "KiB": 2**10, "MiB": 2**20, "GiB": 2**30}
_QUANTITY = re.compile(r"^(\d+(?:\.\d+)?)\s*([A-Za-z]+(?:/s)?)$")


class Number(Decimal):
    """A number that is not whole, with the text it was written in."""

    text: str

    def __new__(cls, text: str) -> Self:
        """Read a number from its text."""
        number = super().__new__(cls, text)
        number.text = text
        return number


@dataclass(frozen=True, slots=True)
class Secret:
    """The name of a secret, and once the file is loaded its value, which is never shown."""

    name: str
    value: str = field(default="", repr=False)


def parse_duration(text: object) -> int:
    """Read a duration such as `5s`, `250ms`, `1.5h` or `60d` as whole nanoseconds."""
    return _quantity(text, _NS_PER_UNIT, "duration")


def parse_size(text: object) -> int:
    """Read a size such as `8GB`, `56kB` or `1MiB` as whole bytes."""
    return _quantity(text, _BYTES_PER_UNIT, "size")


def parse_rate(text: object) -> int:
    """Read a rate such as `50kB/s` as whole bytes a second."""
    units = {f"{unit}/s": factor for unit, factor in _BYTES_PER_UNIT.items()}
    return _quantity(text, units, "rate")


def parse_percent(text: object) -> int:
    """Read a part such as `75%` as whole percent, 1 to 100."""
    match = re.match(r"^(\d{1,3})\s*%$", text) if isinstance(text, str) else None
    if match is None or not 1 <= int(match[1]) <= 100:
        raise PydanticCustomError("bad_percent", "not a part", {})
    return int(match[1])


def _listed(value: object) -> object:
    """Let one text stand for a list of one."""
    if isinstance(value, tuple):
        return value
    if not isinstance(value, str):
        raise PydanticKnownError("string_type")
    return (value,)


def _start(text: str) -> str:
    """Judge where a new uplink begins: `now`, `oldest`, or a day as 2026-11-20."""
    if text in ("now", "oldest"):
        return text
    try:
        day = dt.date.fromisoformat(text)
    except ValueError:
        raise PydanticCustomError("bad_start", "not a start", {}) from None
    return day.isoformat()


def _quantity(text: object, units: Mapping[str, int], what: Literal["duration", "size", "rate"]) -> int:
    match = _QUANTITY.match(text) if isinstance(text, str) else None
    factor = units.get(match[2]) if match else None
    if match is None or factor is None:
        raise PydanticCustomError(f"bad_{what}", "not a {what}", {"what": what, "units": ", ".join(units)})
    return int(Decimal(match[1]) * factor)


def exact(value: object) -> str:
    """Keep a number as the exact text it was written in. The reader hands over text, int or Decimal, never float."""
    try:
        finite = not isinstance(value, bool) and Decimal(str(value)).is_finite()
    except InvalidOperation:
        finite = False
    if not finite:
        raise PydanticCustomError("bad_number", "not a number", {})
    return value.text if isinstance(value, Number) else str(value)


def _positive(value: int) -> int:
    if value <= 0:
        raise PydanticCustomError("not_positive", "must be more than zero", {})
    return value


def _frozen(value: object) -> object:
    return tuple(map(_frozen, value)) if isinstance(value, list) else value


Name = Annotated[str, Field(pattern=NAME_PATTERN)]
Duration = Annotated[int, BeforeValidator(parse_duration), AfterValidator(_positive)]
Size = Annotated[int, BeforeValidator(parse_size)]
Exact = Annotated[str, BeforeValidator(exact)]
Rate = Annotated[int, BeforeValidator(parse_rate), AfterValidator(_positive)]
Percent = Annotated[int, BeforeValidator(parse_percent)]


class Strict(BaseModel):
    """What every part of the file is: frozen, and every key known."""

    model_config = ConfigDict(extra="forbid", frozen=True, populate_by_name=True, strict=True)

    @model_validator(mode="before")
    @classmethod
    def _lists_are_tuples(cls, data: object) -> object:
        """Let a list stand for a tuple, which strict types would not."""
        if not isinstance(data, dict):
            return data
        return {key: _frozen(value) for key, value in data.items()}


class Watch(Strict):
    """How often the station measures itself and its links, and the stream in which it keeps that."""

    every: Duration = parse_duration("1m")
    stream: Name = "main"


class Gateway(Strict):
    """Who this station is."""

    id: Name
    name: str = ""
    timezone: str = "Asia/Ho_Chi_Minh"
    language: Literal["vi", "en"] = "vi"
    watch: Watch | None = Field(default_factory=Watch)


class Tls(Strict):
    """Certificates of an uplink; paths are relative to the file that names them."""

    ca: FilePath
    cert: FilePath | None = None
    key: FilePath | None = None


class Template(Strict):
    """A platform's own messages: a topic and a payload for each frame or each reading, as Jinja templates."""

    topic: Annotated[str, Field(min_length=1, max_length=1024)]
    payload: Annotated[str, Field(min_length=1, max_length=16_384)]
    each: Literal["frame", "reading"] = "frame"
    content_type: Annotated[str, Field(min_length=1, max_length=128)] | None = None


class Uplink(Strict):
    """One platform: where it is, what it gets, what it may send us."""

    url: Annotated[tuple[str, ...], Field(min_length=1), BeforeValidator(_listed)]
    """One address, or several that are tried in order."""
    format: Literal["block", "json", "thingsboard", "template"] = "block"
    streams: tuple[Name, ...] | None = None
    points: Annotated[tuple[str, ...], Field(min_length=1)] | None = None
    """`device/point` or `device/*`; in the re-encoded formats. Without it: every point of the streams."""
    compress: Literal["none", "zstd", "gzip"] | None = None
    chunk: Annotated[Size, Field(ge=1_000, le=1_000_000)] | None = None
    template: Template | None = None
    start: Annotated[str, AfterValidator(_start)] = Field("oldest", alias="from")
    """Where an uplink begins whose name is new."""
    accept: tuple[Literal["config", "command", "resend"], ...] = ()
    tls: Tls | None = None
    mqtt: Literal["5", "3.1.1"] = "5"
    prefix: Annotated[str, Field(pattern=r"^[^+#\x00]+$")] = "trambien/v1"
    window: Annotated[int, Field(ge=1, le=1000)] = 64
    backlog: Literal["oldest-first", "newest-first"] = "oldest-first"
    share: Percent = 75
    """The part of the window that the backlog may use; the rest is kept free for fresh blocks."""
    max_rate: Rate | None = None
    no_subscriber: Literal["wait", "accept"] = "wait"
    """Whether a block that nobody is subscribed to is kept and sent again, or counts as delivered."""
    confirm: Literal["broker", "platform"] = "broker"
    confirm_within: Duration = parse_duration("60s")


class Buffer(Strict):
    """Where readings are kept, how often they are sealed, and how much room they may take.

    What was delivered goes after `keep` of running time, or earlier where room is needed. If that is not enough, of
    what was not delivered goes first, as `when_full` says: the oldest, the newest, or (`thin`) all but every second
    block, then all but every fourth, and so on. Events and layouts stay.
    """

    path: FilePath = "/var/lib/trambien/buffer.db"
    seal_every: Duration = parse_duration("5s")
    keep: Duration = parse_duration("60d")
    limit: Annotated[Size, Field(ge=1_000_000)] = parse_size("8GB")
    reserve: Size = parse_size("500MB")
    when_full: Literal["oldest", "newest", "thin"] = "oldest"
    max_block: Annotated[Size, Field(ge=4_000, le=1_000_000)] = parse_size("56kB")


class Serial(Strict):
    """A serial port. `port` should be a stable name such as /dev/serial/by-id/..."""

    port: str
    baud: Annotated[int, Field(ge=50, le=4_000_000)] = 9600
    parity: Literal["none", "even", "odd"] = "none"
    stop_bits: Literal[1, 2] = 1
    data_bits: Literal[7, 8] = 8


class Point(Strict):
    """What every point may say, whatever protocol brings it."""

    unit: str = ""
    scale: Exact | None = None
    offset: Exact | None = None
    range: tuple[Exact, Exact] | None = None
    every: Duration | None = None
    note: str = ""


P = TypeVar("P", bound=Point)


class Device(Strict, Generic[P]):
    """One instrument: its interval, its stream, its points. `points` may come from a profile."""

    profile: str | None = None
    every: Duration | None = None
    stream: Name = "main"
    points: dict[str, P] = Field(default_factory=dict)


D = TypeVar("D", bound=Device)  # type: ignore[type-arg]  # a driver's device fixes its own point


class Link(Strict, Generic[D]):
    """One wire. Its devices are polled by one owner."""

    driver: str
    timeout: Duration = parse_duration("1s")
    devices: dict[Name, D] = Field(min_length=1)


class Config(Strict):
    """The whole file. Each link is the model of the driver it names."""

    gateway: Gateway
    uplinks: dict[Name, Uplink] = Field(default_factory=dict)
    buffer: Buffer = Field(default_factory=Buffer)
    links: dict[Name, Link] = Field(min_length=1)  # type: ignore[type-arg]  # any driver's link
