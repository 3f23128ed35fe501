"""docs/formats.md is true: its configuration loads, and its samples are what the code makes."""

import base64
import json
import re
from decimal import Decimal
from pathlib import Path

from chains import SECOND, WALL
from golden import PRESS, data_block, station, told
from settings import uplink_of

from agent import reading
from agent.clock import SystemClock
from agent.formats import make
from agent.formats.sandbox import FILTERS
from agent.formats.template import FRAME, READING, VARIABLES
from buffer.frame import Change, Column, Frame, Layout
from buffer.seal import Batch
from buffer.status import BAD_TIMEOUT
from config.model import Uplink

PAGE = (Path(__file__).parents[3] / "docs" / "formats.md").read_text(encoding="utf-8")
METER = Layout(
    "bus-1",
    "meter",
    "modbus",
    SECOND,
    (
        Column("voltage", "uint16", unit="V", scale="0.1", address="input:0"),
        Column("power", "float32", unit="kW", address="input:2"),
    ),
)
LAYOUTS = (METER, PRESS)
FORMAT_NAMES = {"block", "json", "thingsboard", "template"}


def sample(name: str) -> object:
    """Give the JSON of a sample, digits and all."""
    found = re.search(rf"^```json {re.escape(name)}\n(.*?)^```", PAGE, re.MULTILINE | re.DOTALL)
    assert found, name
    return exactly(found[1])


def exactly(text: str | bytes) -> object:
    """Read JSON without rounding."""
    return json.loads(text, parse_float=Decimal)


def batch() -> Batch:
    """Give the readings of the page."""
    gathered = Batch()
    gathered.add_frame(METER, Frame(101 * SECOND, 3_000_000, (2301, 1.5)))
    gathered.add_frame(METER, Frame(102 * SECOND, 2_000_000, (2299, None), (0, BAD_TIMEOUT)))
    gathered.add_changes(PRESS, [Change(0, WALL + 102 * SECOND + 7_000_000, 102 * SECOND + 9_000_000, 1480.5)])
    return gathered


def messages(uplink: Uplink) -> list:
    """Give what the code makes of them."""
    kept = data_block(what=batch(), layouts=LAYOUTS)
    conversation = make(station(profiles={}), uplink).converse()
    return told(conversation, kept, uplink.points, layouts=LAYOUTS)


def test_the_json_of_the_page_is_what_is_signed() -> None:
    """Every key and every digit."""
    [one] = messages(uplink_of(url="mqtt://h", format="json"))
    inside = one.payload.split(b".")[1]
    assert exactly(base64.urlsafe_b64decode(inside + b"=" * (-len(inside) % 4))) == sample("json")


def test_the_thingsboard_messages_of_the_page_are_what_is_sent() -> None:
    """Connect, attributes, telemetry."""
    sent = messages(uplink_of(url="mqtt://h", format="thingsboard"))
    for topic in ("v1/gateway/connect", "v1/gateway/attributes", "v1/gateway/telemetry"):
        assert sample(topic) in [exactly(one.payload) for one in sent if one.topic == topic]


def test_the_configuration_of_the_page_loads_and_its_template_says_what_is_shown(tmp_path: Path) -> None:
    """What is copied from the page works."""
    shown = re.search(r"^```yaml\n(.*?)^```", PAGE, re.MULTILINE | re.DOTALL)
    assert shown
    file = tmp_path / "gateway.yaml"
    file.write_text(shown[1], encoding="utf-8")
    uplinks = reading.read(file, SystemClock()).loaded.config.uplinks
    assert {uplink.format for uplink in uplinks.values()} == {"json", "thingsboard", "template"}
    first = messages(uplinks["own"])[0]
    assert first.topic == "messages/meter/voltage"
    assert exactly(first.payload) == sample(first.topic)


def test_the_page_names_every_variable_and_filter() -> None:
    """And none that there is not."""
    tables = re.findall(r"^\| (`.*?) \|", PAGE, re.MULTILINE)
    named = {name for cell in tables for name in re.findall(r"`([a-z_]+)", cell)} - FORMAT_NAMES
    assert named == {*VARIABLES, *READING, *FRAME, *FILTERS} - FORMAT_NAMES
