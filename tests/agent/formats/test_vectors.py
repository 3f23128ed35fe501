"""Golden vectors of the formats: one block with one of everything in, exact bytes out.

With `TRAMBIEN_REGOLD=1` they are written anew; read the difference before it is committed. What has gone out to
platforms must not change.
"""

import json
import os
from base64 import urlsafe_b64decode, urlsafe_b64encode
from pathlib import Path
from typing import get_args, get_type_hints

import pytest
from chains import key
from golden import Nowhen, data_block, events_block, said, sealed, station, told
from joserfc import jws
from joserfc.jwk import OKPKey
from settings import uplink_of

from agent.formats import BLOCK, FORMATS, make
from agent.formats.block import message
from buffer.block import decode_block, read_header
from config.model import Uplink

DATA = Path(__file__).parents[2] / "data" / "formats"
OWN = {
    "each": "reading",
    "topic": "messages/{{ device }}/{{ point }}",
    "payload": '{"t":"{{ utc_us | iso }}","v":{{ value | json }},"s":{{ status | json }},"h":{{ historical }}}',
    "content_type": "application/json",
}
CASES = {
    "json": {"format": "json"},
    "json-points": {"format": "json", "points": ["meter/voltage", "press/*"]},
    "thingsboard": {"format": "thingsboard"},
    "thingsboard-chunked": {"format": "thingsboard", "chunk": "1kB"},
    "thingsboard-points": {"format": "thingsboard", "points": ["panel/int64", "press/batch"]},
    "template": {"format": "template", "template": OWN},
    "template-points": {"format": "template", "template": OWN, "points": ["meter/energy"]},
}


def agreed(name: str, text: str) -> None:
    """Compare with what was agreed."""
    file = DATA / f"{name}.txt"
    if os.environ.get("TRAMBIEN_REGOLD"):
        file.write_text(text, encoding="utf-8")
    assert text == file.read_text(encoding="utf-8")


@pytest.mark.parametrize("name", CASES)
def test_a_block_is_told_in_exactly_these_bytes(name: str) -> None:
    """Booleans, integers of every width, NaN and infinities, text, bytes, every kind of status, changes."""
    uplink = uplink_of(url="mqtt://h", **CASES[name])
    messages = told(make(station(), uplink).converse(), data_block(), uplink.points)
    agreed(name, said(messages))


def test_what_is_inside_the_signature_can_be_read() -> None:
    """The payload of the `json` vector, as docs/formats.md describes it; a verifier of another author agrees."""
    [one] = told(make(station(), uplink_of(url="mqtt://h", format="json")).converse(), data_block())
    x = urlsafe_b64encode(station().signer().public_key).rstrip(b"=").decode()
    public = OKPKey.import_key({"kty": "OKP", "crv": "Ed25519", "x": x})
    verified = jws.deserialize_compact(one.payload, public, algorithms=["EdDSA"])
    agreed("json-inside", verified.payload.decode() + "\n")
    [events] = told(make(station(), uplink_of(url="mqtt://h", format="json")).converse(), events_block())
    agreed("json-events", jws.deserialize_compact(events.payload, public, algorithms=["EdDSA"]).payload.decode() + "\n")


def test_block_is_told_as_it_was_signed() -> None:
    """Not a byte is made anew."""
    kept = data_block()
    one = message("trambien/v1/station-1", kept)
    assert one.topic == "trambien/v1/station-1/block/main"
    assert decode_block(one.payload) == kept.block


@pytest.mark.parametrize("name", ["thingsboard", "template"])
def test_blocks_without_readings_make_no_message(name: str) -> None:
    """Definitions and events are for `block` and `json`."""
    uplink = uplink_of(url="mqtt://h", **CASES[name])
    for kept in sealed():
        if not read_header(kept.block.envelope).readings:
            assert told(make(station(), uplink).converse(), kept, placer=Nowhen()) == []


def test_every_format_of_the_configuration_is_in_the_registry() -> None:
    """A name in one of the two places only would be a format that cannot be chosen, or one that fails at the start."""
    assert set(get_args(get_type_hints(Uplink)["format"])) == {BLOCK, *FORMATS}


def test_a_message_is_signed_with_the_key_that_is_in_force_when_it_is_made() -> None:
    """A rotation retires the old key for what is said over an uplink that stands, too."""
    keys = [key(2), key(1)]
    conversation = make(station(signer=keys.pop), uplink_of(url="mqtt://h", format="json")).converse()
    for signer in (key(1), key(2)):
        [one] = told(conversation, data_block())
        header = one.payload.split(b".")[0].decode()
        assert json.loads(urlsafe_b64decode(header + "=" * (-len(header) % 4)))["kid"] == signer.kid.hex()
