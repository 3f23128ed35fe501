"""Envelopes that are none: cut, too long, too deep, and of other members than the page says."""

import pytest
from operators import (
    DAY_S,
    LAN,
    MALLORY,
    MINH,
    NOW,
    NOW_S,
    PUSH,
    STATE,
    content,
    judge,
    new_trust,
    push,
    standing,
)
from refusals import members, peak_of, reason

from buffer import cbor_item
from config.push import (
    CONFIG,
    SIZE_LIMIT,
    Accepted,
    Rejected,
    shown,
    take_apart,
)


def test_truncated():
    """At every length."""
    whole = push()
    assert {reason(whole[:length]) for length in range(len(whole))} == {"push.not-an-envelope"}


def test_oversize():
    """Refused before anything is made of it."""
    assert peak_of(bytes(SIZE_LIMIT + 1), "push.too-large") < 100_000
    assert reason(b"") == "push.not-an-envelope"


@pytest.mark.parametrize(
    "bomb",
    [
        b"\x81" * 100_000 + b"\x00",
        b"\x9b\xff\xff\xff\xff\xff\xff\xff\xff",
        b"\x5b\x7f\xff\xff\xff\xff\xff\xff\xff",
        b"\x9f" * 1000,
        b"\xc2\x5a\x00\x01\x00\x00" + b"\xff" * 65_536,
        b"\xd8\x23\x78\x20(((((((((a+)+)+)+)+)+)+)+)+b   ",
        b"\xd8\x1d\x00",
        b"\x61\xff",
    ],
)
def test_bomb(bomb):
    """Nesting, lengths that are lies, big numbers, patterns, references: outside and in a signed content."""
    assert peak_of(bomb, "push.not-an-envelope") < 1_000_000
    if len(bomb) < 200_000:
        assert reason(content(bomb)) == "push.content"


def test_a_bomb_of_yaml_is_a_file_that_cannot_be_read():
    """Signed or not, it expands to nothing."""
    laughs = b"a: &a [x, x]\nb: &b [*a, *a]\nc: [*b, *b]\n"
    assert isinstance(judge(push(LAN, MINH, configuration=laughs), standing(), STATE, NOW), Accepted)
    assert reason(push(configuration=b"[" * 20_000)) == "push.unreadable"
    assert reason(push(configuration=b"\xff\xfe")) == "push.unreadable"


@pytest.mark.parametrize(
    "shape",
    [
        [CONFIG, b"", []],
        [CONFIG, b"", [b"", *[b"x"] * 8]],
        ["trambien-block", b"", [b""]],
        [CONFIG, "", [b""]],
        [CONFIG, b"", ["text"]],
        [CONFIG, b"", [b"no COSE"]],
        [CONFIG, b""],
        {0: CONFIG},
        None,
    ],
)
def test_not_an_envelope(shape):
    """Anything but the three parts."""
    assert reason(cbor_item.encode(shape)) == "push.not-an-envelope"


@pytest.mark.parametrize(
    ("changes", "code"),
    [
        ({"_0": 2}, "push.format"),
        ({"_0": True}, "push.content"),
        ({"_0": None}, "push.content"),
        ({"_1": "station-1"}, "push.content"),
        ({"_1": ["Station 1"]}, "push.content"),
        ({"_1": ["station-1\n"]}, "push.content"),
        ({"_1": ["a"] * 1001}, "push.content"),
        ({"_3": 1}, "push.content"),
        ({"_4": 0}, "push.content"),
        ({"_5": True}, "push.content"),
        ({"_6": -1}, "push.content"),
        ({"_7": NOW_S - 60}, "push.content"),
        ({"_7": NOW_S + 500 * DAY_S}, "push.content"),
        ({"_8": b"short"}, "push.content"),
        ({"_9": 9}, "push.content"),
        ({"_10": "text"}, "push.content"),
        ({"_10": None}, "push.content"),
        ({"_12": 0}, "push.content"),
        ({"_-1": 0}, "push.content"),
    ],
)
def test_a_content_is_what_the_page_says(changes, code):
    """Nothing more, nothing less, nothing else: a push grows by a new format only."""
    assert reason(content(cbor_item.encode(members(**changes)))) == code


def test_a_content_is_a_map_of_numbers():
    """In its one encoding."""
    assert reason(content(b"\x80")) == "push.content"
    named = {("1" if key == 1 else key): value for key, value in members().items()}
    assert reason(content(cbor_item.encode(named))) == "push.content"
    pairs = [part for pair in reversed(members().items()) for part in pair]
    backwards = bytes([0xA0 | len(members())]) + b"".join(map(cbor_item.encode, pairs))
    assert reason(content(backwards)) == "push.content"


# -- trust -------------------------------------------------------------------------------------------------------------


def test_what_an_envelope_says_can_be_shown_unproven():
    """For the operator, before he signs."""
    assert shown(push(MALLORY)) == (take_apart(push(MALLORY)), PUSH)
    assert shown(new_trust())[1] is None
    assert shown(b"") == Rejected("push.not-an-envelope")
    assert shown(content(b"")) == Rejected("push.content")
