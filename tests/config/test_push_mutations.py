"""Mutated envelopes: none is accepted, none raises, whatever was done to the bytes.

`TRAMBIEN_MUTATIONS=100000 pytest tests/config/test_push_mutations.py` runs the full number.
"""

import os
import random

from operators import BEFORE, CRITICAL, LAN, MINH, NOW, STATE, content, judge, new_trust, push, standing

from config.push import Rejected, take_apart

COUNT = int(os.environ.get("TRAMBIEN_MUTATIONS", "3000"))
SPLICES = (
    b"",
    b"\x00",
    b"\xff" * 9,
    b"\x9b" + b"\xff" * 8,
    b"\xc2\x41\x01",
    b"\xd8\x1d\x00",
    b"\xf6",
    b"\xa0",
    b"\x80",
)


def mutated(rng: random.Random, data: bytes, other: bytes) -> bytes:
    """Change bytes in one of the ways in which they are changed by chance or by will."""
    found = bytearray(data)
    for _ in range(rng.choice((1, 1, 1, 2, 5))):
        at = rng.randrange(len(found) + 1)
        match rng.randrange(7):
            case 0:
                found[at : at + 1] = bytes([found[at] ^ (1 << rng.randrange(8))]) if at < len(found) else b"\x00"
            case 1:
                found[at:at] = rng.choice(SPLICES)
            case 2:
                del found[at : at + rng.randrange(1, 40)]
            case 3:
                found[at : at + 1] = rng.randbytes(1)
            case 4:
                start = rng.randrange(len(other))
                found[at : at + rng.randrange(60)] = other[start : start + rng.randrange(1, 60)]
            case 5:
                end = at + rng.randrange(1, 60)
                found[end:end] = found[at:end]
            case _:
                del found[at:]
    return bytes(found)


def test_no_mutated_envelope_is_accepted_and_none_raises():
    """A push of one signature, one of two, a trust document, and what a signer may get wrong; mixed with each other."""
    rng = random.Random(os.environ.get("TRAMBIEN_SEED", "push"))  # the seed makes a failure repeatable
    sound = [push(), push(LAN, MINH, configuration=CRITICAL), push(version=9, groups=("coast",)), new_trust()]
    trust, refusals, unchanged = standing(), set(), 0
    for _ in range(COUNT):
        data = mutated(rng, rng.choice(sound), rng.choice(sound))
        if data in sound:
            unchanged += 1
            continue
        verdict = judge(data, trust, STATE, NOW)
        assert isinstance(verdict, Rejected), data.hex()
        refusals.add(verdict.code)
    assert unchanged < COUNT / 20
    assert {"push.not-an-envelope", "push.bad-signature", "push.mixed-parts"} <= refusals


def test_a_mutated_content_with_a_good_signature_raises_nothing():
    """A signer's mistake: whatever comes out is a verdict, and what is accepted brings a configuration."""
    rng = random.Random("content")
    sound = take_apart(push()).content
    trust = standing()
    for _ in range(COUNT // 10):
        verdict = judge(content(mutated(rng, sound, BEFORE)), trust, STATE, NOW)
        assert isinstance(verdict, Rejected) or verdict.push.configuration
