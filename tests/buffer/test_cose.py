"""COSE_Sign1 as others make it, and nothing that merely resembles it."""

from hashlib import sha256

import pytest
from chains import key

from buffer import cose
from buffer.cbor_item import decode, encode
from buffer.keys import DeviceKey

# cose-wg/Examples, eddsa-examples/eddsa-sig-01: the key of RFC 8032, section 7.1, test 1.
SEED = bytes.fromhex("9d61b19deffd5a60ba844af492ec2cc44449c5697b326919703bac031cae7f60")
PUBLIC = bytes.fromhex("d75a980182b10ab7d54bfed3c964073a0ee172f3daa62325af021a68f707511a")
EXAMPLE = bytes.fromhex(
    "d28445a201270300a10442313154546869732069732074686520636f6e74656e742e58407142fd2ff96d56db85bee905a76ba1d0b732"
    "1a95c8c4d3607c5781932b7afb8711497dfa751bf40b58b3bcc32300b1487f3db34085eef013bf08f4a44d6fef0d"
)
KEY = key()
KEYS = {KEY.kid: KEY.public_key}


def test_the_working_groups_example_is_made_byte_for_byte():
    """Our Sig_structure and our assembly are those of the example with Ed25519."""
    signer = DeviceKey.from_seed(SEED)
    protected, content = bytes.fromhex("a201270300"), b"This is the content."
    signature = signer.sign(cose.to_be_signed(protected, content))
    assert signer.public_key == PUBLIC
    assert cose.assemble(protected, {4: b"11"}, content, signature) == EXAMPLE


def test_a_thumbprint_is_the_hash_of_the_three_members():
    """{1: 1, -1: 6, -2: x}, in that order, nothing else."""
    encoded = bytes.fromhex("a301012006215820") + PUBLIC
    assert cose.thumbprint(PUBLIC) == sha256(encoded).digest()


def message(typ="a", payload=b"p", signer=KEY):
    """Sign something."""
    return cose.sign(payload, typ, signer.kid, signer.sign)


def test_what_was_signed_verifies():
    """Payload and key come out."""
    assert cose.verify(message(), KEYS, "a") == (b"p", key().kid)
    assert cose.unverified(message()) == (b"p", key().kid)


def reason(data, typ="a"):
    """Give why something is refused."""
    with pytest.raises(cose.SignatureRefused) as refused:
        cose.verify(data, KEYS, typ)
    return refused.value.reason


def test_another_type_is_refused():
    """A block is never taken for a push."""
    assert reason(message(typ="b")) == "wrong-type"


def test_a_foreign_key_is_refused():
    """Only keys that are trusted count."""
    assert reason(message(signer=key(2))) == "foreign-key"


@pytest.mark.parametrize("at", [-1, -40, -67])
def test_a_changed_byte_is_refused(at):
    """Signature and payload."""
    data = bytearray(message())
    data[at] ^= 1
    assert reason(bytes(data)) == "bad-signature"


def parts(**changes):
    """Give a message whose parts are others."""
    protected, unprotected, payload, signature = decode(message()[1:], 2)
    all_parts = {"protected": protected, "unprotected": unprotected, "payload": payload, "signature": signature}
    return b"\xd2" + encode(list((all_parts | changes).values()))


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"\xff",
        encode([1]),
        b"\xd2" + encode(1),
        b"\xd2" + encode([b"", {}, b""]),
        b"\xd8\x62" + message()[1:],
        parts(unprotected={4: b"x"}),
        parts(payload=None),
        parts(payload="p"),
        message()[1:],
        message() + b"\0",
        b"\xd8\x12" + message()[1:],
        b"\xd2\x98\x04" + message()[2:],
    ],
)
def test_what_is_not_exactly_one_sign1_is_refused(data):
    """There is one encoding of a message, and no other verifies."""
    assert reason(data) == "not-sign1"


@pytest.mark.parametrize(
    "protected",
    [b"", {}, {1: -8}, {1: -7, 4: key().kid, 16: "a"}, {1: -8, 4: key().kid, 16: "a", 15: 0}, {1: -8, 4: "x", 16: "a"}],
)
def test_another_protected_header_is_refused(protected):
    """Exactly algorithm, key and type."""
    data = parts(protected=protected if isinstance(protected, bytes) else encode(protected))
    assert reason(data) in {"wrong-type", "not-sign1"}


def test_a_message_without_a_key_has_no_origin():
    """Also where the signature is not looked at."""
    with pytest.raises(cose.SignatureRefused):
        cose.unverified(parts(protected=encode({1: -8})))
