"""What the judge of pushes says of an envelope that it refuses, and what an envelope holds."""

import tracemalloc

from operators import (
    NOW,
    PUSH,
    STATE,
    judge,
    standing,
)

from buffer import cbor_item
from config.push import (
    Rejected,
    encode,
    take_apart,
)


def reason(data, trust=None, state=STATE, now=NOW):
    """Give the code with which an envelope is refused."""
    verdict = judge(data, trust or standing(), state, now)
    assert isinstance(verdict, Rejected), verdict
    return verdict.code


def peak_of(data, code):
    """Give the most bytes that are allocated while an envelope is refused."""
    trust = standing()
    tracemalloc.start()
    try:
        assert reason(data, trust) == code
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


def members(**changes):
    """Give the members of a content, changed by key: `_5=...`; None leaves one out."""
    found = cbor_item.decode(encode(PUSH), 2) | {int(key[1:]): value for key, value in changes.items()}
    return {key: value for key, value in found.items() if value is not None}


def signatures(data):
    """Give the signatures of an envelope."""
    return take_apart(data).signatures


# -- what is let in ----------------------------------------------------------------------------------------------------
