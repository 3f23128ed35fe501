"""A key statement: well signed by both keys it names, or none."""

import pytest
from chains import key

from buffer import cose
from buffer.cbor import dumps
from buffer.errors import BlockInvalid
from buffer.rotation import TYPE, Statement, read_statement, read_statements, sign_statement

OLD, NEW = key(1), key(2)


def signed(entries, old=OLD, new=NEW):
    """Let both keys sign any content."""
    content = dumps(entries)
    return cose.sign(content, TYPE, old.kid, old.sign), cose.sign(content, TYPE, new.kid, new.sign)


SOUND = {0: "station-1", 1: OLD.public_key, 2: NEW.public_key, 3: 4}


def test_what_both_keys_signed_is_read():
    """With the thumbprints of both."""
    statement = read_statement(sign_statement("station-1", OLD, NEW, 4))
    assert statement == Statement("station-1", OLD.public_key, NEW.public_key, 4)
    assert (statement.old_kid, statement.new_kid) == (OLD.kid, NEW.kid)


def test_the_same_keys_make_the_same_statement():
    """So one that was not written down before a kill can be made again."""
    assert sign_statement("s", OLD, NEW, 1) == sign_statement("s", OLD, NEW, 1)


def test_a_statement_may_grow():
    """A later key, and a later member, are covered and skipped."""
    assert read_statement((*signed(SOUND | {9: "later"}), b"later")).counter == 4
    assert len(read_statements([signed(SOUND), signed(SOUND)])) == 2


@pytest.mark.parametrize(
    "encoded",
    [
        None,
        b"none",
        (),
        (b"one",),
        ("text", "text"),
        (b"", b""),
        (bytes(1025), bytes(1025)),
        (signed(SOUND)[1], signed(SOUND)[0]),
        (signed(SOUND)[0], signed(SOUND)[0]),
        (signed(SOUND)[0], signed(SOUND | {3: 5})[1]),
        (signed(SOUND)[0], signed(SOUND)[1][:-64] + bytes(64)),
        signed(SOUND, new=key(3)),
        signed(SOUND, old=key(3)),
        signed(SOUND | {2: OLD.public_key}, new=OLD),
        signed(SOUND | {1: OLD.public_key[:31]}),
        signed(SOUND | {2: "text"}),
        signed(SOUND | {0: "x" * 64}),
        signed(SOUND | {3: 0}),
        signed(SOUND | {3: -1}),
        signed({0: "station-1"}),
        signed([1, 2, 3]),
        tuple(cose.sign(dumps(SOUND), "trambien-block", one.kid, one.sign) for one in (OLD, NEW)),
    ],
)
def test_whatever_else_is_none(encoded):
    """Not one of these may bring a key in."""
    with pytest.raises(BlockInvalid) as refused:
        read_statement(encoded)
    assert refused.value.reason == "key-statement"


def test_a_statement_of_a_later_meaning_is_not_interpreted():
    """A negative key changes what stands beside it."""
    with pytest.raises(BlockInvalid) as refused:
        read_statement(signed({-1: 0} | SOUND))
    assert refused.value.reason == "do-not-interpret"
