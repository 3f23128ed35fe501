"""What ThingsBoard is told, and how it is cut."""

import json
from collections import Counter
from dataclasses import replace

import pytest
from golden import METER, UNSYNCHRONISED, Nowhen, data_block, opener, station, told
from hypothesis import given
from hypothesis import strategies as st
from settings import uplink_of

from agent.formats import make
from agent.formats.api import CannotTell, Opened
from agent.formats.thingsboard import Row, chunks

TEXTS = st.integers().map(str) | st.text(max_size=200).map(json.dumps)
VALUES = st.dictionaries(st.text(min_size=1, max_size=20), TEXTS, min_size=1, max_size=12)
DEVICES = st.sampled_from(["station-1/a", "station-1/thiết bị"])
ROWS = st.lists(st.builds(Row, DEVICES, st.integers(0, 2**45), VALUES))


@given(ROWS, st.integers(700, 4000))
def test_no_message_is_larger_than_the_chunk_and_nothing_is_lost(rows: list[Row], most: int) -> None:
    """Every value of every row arrives once, under its device and time; all but single long values fit."""
    messages = list(chunks(rows, most))
    arrived: Counter[tuple[str, int, str, str]] = Counter()
    for payload in messages:
        document = json.loads(payload)
        values = [entry["values"] for entries in document.values() for entry in entries]
        assert len(payload) <= most or sum(map(len, values)) == 1
        for device, entries in document.items():
            for entry in entries:
                arrived.update((device, entry["ts"], key, json.dumps(value)) for key, value in entry["values"].items())
    sent = Counter(
        (row.device, row.ts_ms, key, json.dumps(json.loads(text))) for row in rows for key, text in row.values.items()
    )
    assert arrived == sent


def test_messages_are_filled_rather_than_many() -> None:
    """A hundred small rows make few messages."""
    rows = [Row("station-1/a", 1_767_225_600_000 + at, {"x": "1"}) for at in range(100)]
    assert len(list(chunks(rows, 1000))) <= 6
    assert len(list(chunks(rows, 100_000))) == 1


def kinds(messages: list) -> Counter[str]:
    """Count messages by topic."""
    return Counter(one.topic.rpartition("/")[2] for one in messages)


def test_a_device_is_introduced_once_a_session_and_again_when_something_failed() -> None:
    """Connect and attributes go before its first telemetry."""
    made = make(station(), uplink_of(url="mqtt://h", format="thingsboard"))
    session = made.converse()
    first = told(session, data_block())
    assert kinds(first) == {"connect": 3, "attributes": 3, "telemetry": 1}
    assert first[-1].topic.endswith("telemetry")
    assert kinds(told(session, data_block())) == {"telemetry": 1}
    session.forget()
    assert kinds(told(session, data_block())) == {"connect": 3, "attributes": 3, "telemetry": 1}
    assert kinds(told(made.converse(), data_block())) == {"connect": 3, "attributes": 3, "telemetry": 1}


def test_attributes_are_told_again_when_they_change() -> None:
    """A new unit, of a device that is connected."""
    session = make(station(), uplink_of(url="mqtt://h", format="thingsboard")).converse()
    told(session, data_block())
    opened = opener().open(data_block())
    assert isinstance(opened, Opened)
    columns = (replace(METER.columns[0], unit="kV"), *METER.columns[1:])
    changed = replace(opened, layouts=(replace(METER, columns=columns), *opened.layouts[1:]))
    messages = list(session.messages(changed))
    assert kinds(messages) == {"attributes": 1, "telemetry": 1}
    assert json.loads(messages[0].payload)["station-1/meter"]["voltage.unit"] == "kV"


def test_attributes_are_cut_like_telemetry() -> None:
    """A device of thousands of points does not make one message of a megabyte."""
    session = make(station(), uplink_of(url="mqtt://h", format="thingsboard", chunk="1kB")).converse()
    many = replace(METER, columns=tuple(replace(METER.columns[0], name=f"p{at:03}", unit="m³/h") for at in range(200)))
    messages = list(session._introduce("meter", [many]))
    assert kinds(messages)["attributes"] > 5
    assert max(len(one.payload) for one in messages) <= 1000
    keys = [key for one in messages[1:] for key in json.loads(one.payload)["station-1/meter"]]
    assert len(keys) == len(set(keys)) == 404


def test_a_time_that_is_gone_while_a_block_is_told_is_told_of() -> None:
    """No time is made up in its place."""
    session = make(station(), uplink_of(url="mqtt://h", format="thingsboard")).converse()

    class Forgetful(Nowhen):
        """Knows the time of the header alone."""

        def place(self, boot_id: bytes, boot_ns: int) -> tuple[int, int] | None:
            """Give a time once."""
            return (1, 1) if boot_ns == 105 * 10**9 else None

    with pytest.raises(CannotTell):
        list(session.messages(opener(placer=Forgetful()).open(data_block(UNSYNCHRONISED))))
