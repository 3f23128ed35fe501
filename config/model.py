"""The model of the technician's file: what may stand in it, in which units, and what is assumed where it is silent.

What is always true here:

- Every part is a frozen record (`config.shape`) and knows all its keys; an unknown key is a fault.
- Durations are nanoseconds and sizes are bytes once read; in the file they carry units (`5s`, `250ms`, `8GB`, `56kB`).
- Scale, offset and range stay exact text from the file to the layout; nothing is rounded on the way.
- Types are strict: text is never taken for a number or a yes, nor a number for text. A list is read as a tuple.
- A rule that raises `Wrong` names its own code. What judges the records by these rules is not here (`config.judge`).
- A driver extends `Link`, `Device` and `Point` with its own keys in its own `settings.py`; this file knows no protocol.
"""

import datetime as dt
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from decimal import Decimal, InvalidOperation
from typing import Annotated, Any, Generic, Literal, Self, TypeVar

from config.files import FilePath
from config.shape import After, Before, Between, Key, Length, Pattern, Strict, Written, Wrong

NAME_PATTERN = r"^[a-z0-9][a-z0-9_-]{0,62}$"
"""Names of gateways, streams, links, devices and uplinks; they become topics, so they are plain."""

_NS_PER_UNIT = {"ms": 10**6, "s": 10**9, "m": 60 * 10**9, "h": 3600 * 10**9, "d": 86400 * 10**9}
_BYTES_PER_UNIT = {"B": 1, "kB": 10**3, "MB": 10**6, "GB": 10**9, "KiB": 2**10, "MiB": 2**20, "GiB": 2**30}
DURATION_PATTERN = rf"^[0-9]+(\.[0-9]+)?\s*({'|'.join(_NS_PER_UNIT)})$"
SIZE_PATTERN = rf"^[0-9]+(\.[0-9]+)?\s*({'|'.join(_BYTES_PER_UNIT)})$"
PERCENT_PATTERN = r"^[0-9]{1,3}\s*%$"
"""What a duration, a size and a part look like in the file."""
_QUANTITY = re.compile(r"^(\d+(?:\.\d+)?)\s*([A-Za-z]+(?:/s)?)$")


class Number(Decimal):
    """A number that is not whole, with the text it was written in."""

    text: str

    def __new__(cls, text: str) -> Self:
        """Read a number from its text."""
        number = super().__new__(cls, text)
        number.text = text
        return number

    def __reduce__(self) -> tuple[type[Self], tuple[str]]:
        """Keep the text also where the number goes to another process."""
        return type(self), (self.text,)


@dataclass(frozen=True, slots=True)
class Secret:
    """The name of a secret, and once the file is loaded its value, which is never shown."""

    name: str
    value: str = field(default="", repr=False)


def parse_duration(text: object) -> int:
    """Read a duration such as `5s`, `250ms`, `1.5h` or `60d` as whole nanoseconds."""
    return _quantity(text, _NS_PER_UNIT, "config.bad-duration")


def parse_size(text: object) -> int:
    """Read a size such as `8GB`, `56kB` or `1MiB` as whole bytes."""
    return _quantity(text, _BYTES_PER_UNIT, "config.bad-size")


def parse_rate(text: object) -> int:
    """Read a rate such as `50kB/s` as whole bytes a second."""
    units = {f"{unit}/s": factor for unit, factor in _BYTES_PER_UNIT.items()}
    return _quantity(text, units, "config.bad-rate")


def parse_percent(text: object) -> int:
    """Read a part such as `75%` as whole percent, 1 to 100."""
    match = re.match(r"^(\d{1,3})\s*%$", text) if isinstance(text, str) else None
    if match is None or not 1 <= int(match[1]) <= 100:
        raise Wrong("config.bad-percent")
    return int(match[1])


def _listed(value: object) -> object:
    """Let one text stand for a list of one."""
    if isinstance(value, tuple):
        return value
    if not isinstance(value, str):
        raise Wrong("config.not-text")
    return (value,)


def _start(text: str) -> str:
    """Judge where a new uplink begins: `now`, `oldest`, or a day as 2026-11-20."""
    if text in ("now", "oldest"):
        return text
    try:
        day = dt.date.fromisoformat(text)
    except ValueError:
        raise Wrong("config.bad-start") from None
    return day.isoformat()


def _quantity(text: object, units: Mapping[str, int], code: str) -> int:
    match = _QUANTITY.match(text) if isinstance(text, str) else None
    factor = units.get(match[2]) if match else None
    if match is None or factor is None:
        raise Wrong(code, units=", ".join(units))
    return int(Decimal(match[1]) * factor)


def written_duration(ns: int) -> str:
    """Write a duration as a technician would: in the largest unit that leaves it whole."""
    return _written(ns, _NS_PER_UNIT)


def written_size(count: int) -> str:
    """Write a size as a technician would."""
    return _written(count, {unit: size for unit, size in _BYTES_PER_UNIT.items() if "i" not in unit})


def _written(number: int, units: Mapping[str, int]) -> str:
    unit, factor = max((one for one in units.items() if number % one[1] == 0), key=lambda one: one[1])
    return f"{number // factor}{unit}"


def exact(value: object) -> str:
    """Keep a number as the exact text it was written in. The reader hands over text, int or Decimal, never float."""
    try:
        finite = not isinstance(value, bool) and Decimal(str(value)).is_finite()
    except InvalidOperation:
        finite = False
    if not finite:
        raise Wrong("config.bad-number")
    return value.text if isinstance(value, Number) else str(value)


def _positive(value: int) -> int:
    if value <= 0:
        raise Wrong("config.not-positive")
    return value


Name = Annotated[str, Pattern(NAME_PATTERN)]
Duration = Annotated[
    int,
    Before(parse_duration),
    After(_positive),
    Written({"type": "string", "pattern": DURATION_PATTERN, "examples": ["500ms", "5s", "1m"]}),
]
Size = Annotated[
    int,
    Before(parse_size),
    Written({"type": "string", "pattern": SIZE_PATTERN, "examples": ["56kB", "500MB", "8GB"]}),
]
Exact = Annotated[str, Before(exact), Written({"type": ["number", "string"]})]
Rate = Annotated[
    int,
    Before(parse_rate),
    After(_positive),
    Written({"type": "string", "pattern": SIZE_PATTERN.replace("$", "/s$"), "examples": ["50kB/s"]}),
]
Percent = Annotated[
    int,
    Before(parse_percent),
    Written({"type": "string", "pattern": PERCENT_PATTERN, "examples": ["75%"]}),
]


OWN_DEVICE = "gateway"
"""The name of the device, and of the link, under which the station keeps what it measures of itself."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Watch(Strict):
    """How often the station measures itself and its links, and the stream in which it keeps that."""

    every: Duration = parse_duration("1m")
    stream: Name = "main"


@dataclass(frozen=True, slots=True, kw_only=True)
class Gateway(Strict):
    """Who this station is."""

    id: Name
    """The name of this station on every platform; it becomes a topic and does not change."""
    name: str = ""
    """What people call it."""
    timezone: str = "Asia/Ho_Chi_Minh"
    """Where it stands, by the tz database."""
    language: Literal["vi", "en"] = "vi"
    """What the tools and the status page speak."""
    watch: Watch | None = field(default_factory=Watch)


@dataclass(frozen=True, slots=True, kw_only=True)
class Tls(Strict):
    """Certificates of an uplink; paths are relative to the file that names them."""

    ca: FilePath
    cert: FilePath | None = None
    key: FilePath | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Template(Strict):
    """A platform's own messages: a topic and a payload for each frame or each reading, as Jinja templates."""

    topic: Annotated[str, Length(1, 1024)]
    payload: Annotated[str, Length(1, 16_384)]
    each: Literal["frame", "reading"] = "frame"
    content_type: Annotated[str, Length(1, 128)] | None = None


_Urls = str | Annotated[tuple[str, ...], Length(1)]


@dataclass(frozen=True, slots=True, kw_only=True)
class Uplink(Strict):
    """One platform: where it is, what it gets, what it may send us."""

    url: Annotated[tuple[str, ...], Length(1), Before(_listed, _Urls)]
    """One address, or several that are tried in order."""
    format: Literal["block", "json", "thingsboard", "template"] = "block"
    streams: tuple[Name, ...] | None = None
    points: Annotated[tuple[str, ...], Length(1)] | None = None
    """`device/point` or `device/*`; in the re-encoded formats. Without it: every point of the streams."""
    compress: Literal["none", "zstd", "gzip"] | None = None
    chunk: Annotated[Size, Between(1_000, 1_000_000)] | None = None
    template: Template | None = None
    start: Annotated[str, After(_start), Key("from")] = "oldest"
    """Where an uplink begins whose name is new."""
    accept: tuple[Literal["config", "command", "resend"], ...] = ()
    tls: Tls | None = None
    mqtt: Literal["5", "3.1.1"] = "5"
    prefix: Annotated[str, Pattern(r"^[^+#\x00]+$")] = "trambien/v1"
    window: Annotated[int, Between(1, 1000)] = 64
    backlog: Literal["oldest-first", "newest-first"] = "oldest-first"
    share: Percent = 75
    """The part of the window that the backlog may use; the rest is kept free for fresh blocks."""
    max_rate: Rate | None = None
    no_subscriber: Literal["wait", "accept"] = "wait"
    """Whether a block that nobody is subscribed to is kept and sent again, or counts as delivered."""
    confirm: Literal["broker", "platform"] = "broker"
    confirm_within: Duration = parse_duration("60s")


@dataclass(frozen=True, slots=True, kw_only=True)
class Buffer(Strict):
    """Where readings are kept, how often they are sealed, and how much room they may take.

    What was delivered goes after `keep` of running time, or earlier where room is needed. If that is not enough, of
    what was not delivered goes first, as `when_full` says: the oldest, the newest, or (`thin`) all but every second
    block, then all but every fourth, and so on. Events and layouts stay.
    """

    path: FilePath = "/var/lib/trambien/buffer.db"
    """The file of the buffer; the device key and the control socket lie beside it."""
    seal_every: Duration = parse_duration("5s")
    """How often readings are sealed and committed: what a power cut can lose."""
    keep: Duration = parse_duration("60d")
    """How long delivered readings stay."""
    limit: Annotated[Size, Between(1_000_000)] = parse_size("8GB")
    """How much room the buffer may take."""
    reserve: Size = parse_size("500MB")
    """Free space on the file system that the buffer never takes."""
    when_full: Literal["oldest", "newest", "thin"] = "oldest"
    """Of what was not delivered, what goes first where room is needed."""
    max_block: Annotated[Size, Between(4_000, 1_000_000)] = parse_size("56kB")
    """The largest block, as it is sent."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Serial(Strict):
    """A serial port. `port` should be a stable name such as /dev/serial/by-id/..."""

    port: str
    """The name of the port; one in /dev/serial/by-id/ stays the same."""
    baud: Annotated[int, Between(50, 4_000_000)] = 9600
    """Bits a second."""
    parity: Literal["none", "even", "odd"] = "none"
    """The parity bit."""
    stop_bits: Literal[1, 2] = 1
    """Stop bits."""
    data_bits: Literal[7, 8] = 8
    """Data bits."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Point(Strict):
    """What every point may say, whatever protocol brings it."""

    unit: str = ""
    """The unit of the value after scale and offset, as text."""
    scale: Exact | None = None
    """Value = raw * scale + offset."""
    offset: Exact | None = None
    """Value = raw * scale + offset."""
    range: tuple[Exact, Exact] | None = None
    """The lowest and the highest value that can be true; others are marked bad."""
    every: Duration | None = None
    """How often this point is read, if not as often as its device."""
    note: str = ""
    """What an auditor should know of it."""


P = TypeVar("P", bound=Point)


@dataclass(frozen=True, slots=True, kw_only=True)
class Device(Strict, Generic[P]):
    """One instrument: its interval, its stream, its points. `points` may come from a profile."""

    profile: str | None = None
    every: Duration | None = None
    """How often its points are read."""
    stream: Name = "main"
    """The chain its readings are kept in; an uplink carries the streams it names."""
    points: dict[str, P] = field(default_factory=dict)
    """What is measured, by name."""


D = TypeVar("D", bound=Device)  # type: ignore[type-arg]  # a driver's device fixes its own point


@dataclass(frozen=True, slots=True, kw_only=True)
class Link(Strict, Generic[D]):
    """One wire. Its devices are polled by one owner."""

    driver: str
    """The driver that speaks the protocol of this wire."""
    timeout: Duration = parse_duration("1s")
    """The longest wait for an answer."""
    devices: Annotated[dict[Name, D], Length(1)]
    """The instruments on this wire, by name."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Config(Strict):
    """The whole file. Each link is the model of the driver it names."""

    gateway: Gateway
    """Who this station is."""
    uplinks: dict[Name, Uplink] = field(default_factory=dict)
    """The platforms, by name."""
    buffer: Buffer = field(default_factory=Buffer)
    """Where readings are kept."""
    links: Annotated[dict[Name, Link[Any]], Length(1)]
    """The wires, by name; each has one driver. More of them may stand in links.d/*.yaml."""
