"""What templates make of frames, readings and changes, and what becomes of a block whose template fails."""

import json

import pytest
from golden import METER, PRESS, data_block, station, told
from settings import uplink_of

from agent.broker import Message
from agent.formats import make
from agent.formats.api import CannotTell, FormatMisconfigured
from agent.formats.sandbox import Budget
from agent.formats.template import Templated


def templated(topic: str = "a/{{ device }}", payload: str = "x", **more: str) -> Templated:
    """Make the format."""
    settings = {"topic": topic, "payload": payload, **more}
    made = make(station(), uplink_of(url="mqtt://h", format="template", template=settings))
    assert isinstance(made, Templated)
    return made


def said(**template: str) -> list[Message]:
    """Tell the golden block."""
    return told(templated(**template), data_block())


def test_a_message_a_frame_with_all_its_points() -> None:
    """The values that there are by name, and every point with its status."""
    payload = '{"at":{{ boot_us }},"values":{{ values | json }},"all":{{ points | json }}}'
    messages = [one for one in said(payload=payload) if one.topic == "a/meter"]
    documents = [json.loads(one.payload) for one in messages]
    assert [document["at"] for document in documents] == [101_000_250, 102_000_000, 103_000_000]
    assert documents[1]["values"] == {"voltage": 229.9, "energy": 18446744073709539.115}
    assert [point["value"] for point in documents[2]["all"]] == [None, 2.5, None]
    assert [point["status"] for point in documents[2]["all"]] == [
        "BadOutOfRange",
        "UncertainSensorNotAccurate",
        "BadTimeout",
    ]
    assert [point["good"] for point in documents[0]["all"]] == [True, True, True]
    assert {point["name"] for point in documents[0]["all"]} == {"voltage", "flow", "energy"}


def test_a_change_is_a_frame_of_one_point_with_its_source_time() -> None:
    """None is joined with another."""
    messages = [one for one in said(payload="{{ values | json }} {{ source_us }}") if one.topic == "a/press"]
    assert [one.payload.decode() for one in messages] == [
        '{"speed":1480.5} 1767225702007000',
        '{"batch":"lô 7"} null',
        '{"speed":1479.0} 1767225690000000',
        "{} null",
    ]


def test_a_blank_payload_is_not_published() -> None:
    """So a template chooses what its platform gets."""
    messages = said(payload="{% if device == 'press' %} {{ seq }} {% endif %}\n  ")
    assert {one.topic for one in messages} == {"a/press"}


@pytest.mark.parametrize("topic", ["{{ values['batch'] }}", "a/{{ values.batch | default('#') }}"])
def test_a_topic_that_fails_on_the_data_skips_the_block(topic: str) -> None:
    """What passed the check and fails all the same is no reason to stop, nor to publish to a filter."""
    with pytest.raises(CannotTell) as caught:
        said(topic=topic)
    assert caught.value.reason == "template"


def test_a_block_of_too_many_steps_is_skipped() -> None:
    """Each rendering may be allowed, and all of them together not."""
    costly = "{% for a in points %}" * 3 + "{{ a.name }}" + "{% endfor %}" * 3
    made = templated(payload=costly)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("agent.formats.template.Budget", lambda: Budget(2000))
        with pytest.raises(CannotTell, match="too many steps"):
            told(made, data_block())


def test_a_layout_is_tried_with_good_and_with_bad_values() -> None:
    """At `check`, not at the first broken sensor."""
    careful = templated(each="reading", payload="{% if value is not none %}{{ value * 2 }}{% endif %}")
    careful.try_on(METER, "main")
    with pytest.raises(FormatMisconfigured) as caught:
        templated(each="reading", payload="{{ value * 2 }}").try_on(METER, "main")
    assert caught.value.code == "format.template-fails"
    assert caught.value.path == ("template", "payload")
    with pytest.raises(FormatMisconfigured) as caught:
        templated(topic="a/{{ unit }}#", each="reading").try_on(PRESS, "main")
    assert caught.value.code == "format.template-topic"


def test_a_content_type_is_passed_on() -> None:
    """MQTT 5 only; 3.1.1 has no place for it."""
    assert {one.content_type for one in said(content_type="text/plain")} == {"text/plain"}
    assert {one.content_type for one in said()} == {None}
