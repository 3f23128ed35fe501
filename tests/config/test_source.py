"""The tree of plain values: how scalars are typed, where they stand, and what is refused."""

from decimal import Decimal
from pathlib import Path

import pytest

from config.errors import ConfigFaults, Place
from config.model import Number, Secret
from config.raw import SIZE_LIMIT, read_bytes
from config.source import parse, typed

FILE = Path("f.yaml")


def value_of(text):
    """Read a text that has no fault."""
    document = parse(text.encode(), FILE)
    assert document.faults == []
    return document.value


def codes_of(text):
    """Give the codes of a text's faults, whether the reader could go on or not."""
    try:
        return [fault.code for fault in parse(text if isinstance(text, bytes) else text.encode(), FILE).faults]
    except ConfigFaults as faults:
        return [fault.code for fault in faults.faults]


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("", None),
        ("~", None),
        ("null", None),
        ("true", True),
        ("FALSE", False),
        ("0", 0),
        ("-12", -12),
        ("+7", 7),
        ("0o17", 15),
        ("0xFF", 255),
        ("0.001", Decimal("0.001")),
        (".5", Decimal("0.5")),
        ("1e-3", Decimal("0.001")),
        ("no", "no"),
        ("on", "on"),
        ("12:30", "12:30"),
        ("1_000", "1_000"),
        ("0777", "0777"),
        ("007.5", "007.5"),
        (".inf", ".inf"),
        (".nan", ".nan"),
        ("2026-11-20", "2026-11-20"),
        ("9" * 41, "9" * 41),
        ("1e999", "1e999"),
        ("1e-999", "1e-999"),
    ],
)
def test_plain_scalars_are_typed_by_yaml_1_2_and_nothing_else(text, value):
    """No YAML 1.1 surprise, no infinity, no number too long to be one."""
    assert typed(text) == value
    assert type(typed(text)) is (Number if isinstance(value, Decimal) else type(value))


def test_no_number_ever_becomes_a_float():
    """The tree has whole numbers and exact ones."""
    assert not any(isinstance(item, float) for item in value_of("[1, 1.5, 1e3, -.5, 0.0]"))


def test_a_quoted_scalar_is_text():
    """Quotes switch typing off."""
    assert value_of("['1', \"true\", '']") == ("1", "true", "")


def test_keys_are_text_whatever_they_look_like():
    """`no:` and `1:` are names."""
    assert value_of("{no: 1, 1: 2, true: 3}") == {"no": 1, "1": 2, "true": 3}


def test_a_secret_is_a_name():
    """`!secret` is the one tag."""
    assert value_of("password: !secret plc-password") == {"password": Secret("plc-password")}


def test_a_secret_never_shows_its_value():
    """The value stays out of logs."""
    assert "hunter2" not in repr(Secret("a", "hunter2"))


def test_every_value_and_key_has_its_place():
    """Lines and columns count from one, in characters."""
    document = parse("tên: Trạm\nb:\n  - x\n  - {c: đo, d: 5}\n".encode(), FILE)
    assert document.key_place(("tên",)) == Place(FILE, 1, 1, "tên")
    assert document.place(("tên",)) == Place(FILE, 1, 6, "Trạm")
    assert document.place(("b", 1, "d")) == Place(FILE, 4, 16, "5")
    assert document.key_place(("b", 1, "d")).col == 13
    assert document.place(("b", 1, "nowhere", "at", "all")) == document.place(("b", 1))
    assert document.key_place(("b", 0)) == document.place(("b", 0))


def test_what_is_shown_of_a_long_value_is_short():
    """A fault quotes at most sixty characters of the first line."""
    document = parse(("a: " + "x" * 200 + "\nb: |\n  one\n  two\n").encode(), FILE)
    assert len(document.place(("a",)).text) == 60
    assert "two" not in document.place(("b",)).text


def test_a_byte_order_mark_is_no_fault():
    """Windows editors write one."""
    assert value_of("\ufeffa: 1") == {"a": 1}


@pytest.mark.parametrize(
    ("text", "codes"),
    [
        ("a: &x 1\nb: *x", ["config.alias", "config.alias"]),
        ("a: {<<: {b: 1}}", ["config.alias"]),
        ("&k a: 1", ["config.alias"]),
        ("a: [&x [1], &y {b: 1}]", ["config.alias", "config.alias"]),
        ("a: 1\na: 2\na: 3", ["config.duplicate-key", "config.duplicate-key"]),
        ("a: 1\n---\nb: 1\n---\nc: 1", ["config.many-documents"]),
        ("a: !!python/object x", ["config.unknown-tag"]),
        ("a: !x [1]\nb: !y {c: 1}", ["config.unknown-tag", "config.unknown-tag"]),
        ("!!str a: 1", ["config.bad-key"]),
        ("? [a, b]\n: 1", ["config.bad-key"]),
        ('"a\\u0007b": 1', ["config.bad-key"]),
        ("a: !secret ../x", ["config.secret-bad-name"]),
        ("a: !secret ''", ["config.secret-bad-name"]),
        ('a: "\\0"', ["config.bad-character"]),
        ('a: "\\ud800"', ["config.bad-character"]),
        ('a: "\\UFFFFFFFF"', ["config.bad-yaml"]),
        ("a: \x00", ["config.bad-character"]),
        ("# nothing", ["config.empty"]),
        ("", ["config.empty"]),
        ("[" * 33 + "]" * 33, ["config.too-deep"]),
        ("a:\n\t- b", ["config.tab"]),
        ("a: b: c", ["config.stray-colon"]),
        ("a:\n  b: 1\n c: 1", ["config.bad-indent"]),
        ("a: 'b", ["config.open-quote"]),
        ("a: [b, c", ["config.open-bracket"]),
        ("a: 1\nb\nc: 1", ["config.no-colon"]),
        ("a: %b", ["config.bad-yaml"]),
        ("a: [", ["config.open-bracket"]),
        ("a: @b", ["config.bad-yaml"]),
        (b"a: \xff", ["config.not-unicode"]),
    ],
)
def test_what_is_not_the_small_yaml_is_named(text, codes):
    """Each refusal has its own code, and those that can be read past come together."""
    assert codes_of(text) == codes


def test_a_billion_laughs_stay_unread():
    """Aliases are never expanded, so a bomb is as small as it is written."""
    levels = "".join(f"l{i}: &l{i} [{', '.join([f'*l{i - 1}'] * 9)}]\n" for i in range(1, 9))
    assert set(codes_of("l0: &l0 [lol]\n" + levels)) == {"config.alias"}


def test_depth_just_within_the_limit_is_read():
    """Thirty-two levels are allowed."""
    assert codes_of("[" * 32 + "]" * 32) == []


def test_a_file_beyond_the_limit_is_refused(tmp_path):
    """One byte more than a mebibyte is too much; a mebibyte is not."""
    file = tmp_path / "f.yaml"
    file.write_bytes(b"#" * SIZE_LIMIT)
    assert len(read_bytes(file)) == SIZE_LIMIT
    file.write_bytes(b"#" * (SIZE_LIMIT + 1))
    with pytest.raises(ConfigFaults, match=r"config\.too-large"):
        read_bytes(file)


def test_a_file_that_cannot_be_opened_is_a_fault(tmp_path):
    """Missing files and directories alike."""
    for path in (tmp_path, tmp_path / "none.yaml"):
        with pytest.raises(ConfigFaults, match=r"config\.unreadable"):
            read_bytes(path)


def test_a_quote_left_open_is_shown_where_it_opens():
    """The end of the file is no place to look for it."""
    with pytest.raises(ConfigFaults) as caught:
        parse(b"a: 1\nb: 'x\nc: 1\n", FILE)
    assert [(fault.line, fault.col) for fault in caught.value.faults] == [(2, 4)]
