"""COSE_Sign1 (RFC 9052, section 4.2) with EdDSA over Ed25519 (RFC 9053, section 2.2), and nothing more of COSE.

What is always true here:

- The protected header is exactly {1: -8, 4: kid, 16: typ}; the unprotected one is empty; there is no external data.
  `typ` (RFC 9596) keeps blocks, pushes and acknowledgements of one key from being taken for each other.
- `kid` is the key's COSE thumbprint: SHA-256 of {1: 1, -1: 6, -2: x} (RFC 9679, section 4).
- There is one encoding of a message and only that one verifies, so the digest of the whole is as good as the signature.
- Nothing of the payload is looked at before the signature is found good.

Nearly a leaf: of this project it imports the CBOR codec alone, so that whoever judges signed bytes may use it.
"""

from collections.abc import Callable, Mapping
from functools import lru_cache
from hashlib import sha256
from typing import NamedTuple

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

from buffer.cbor_item import NotCbor, decode, encode

SIGN1_TAG = b"\xd2"
"""The first byte of a message: tag 18."""
_DEPTH = 3
ALG, KID, TYP = 1, 4, 16
EDDSA = -8
KEY_BYTES = 32


class SignatureRefused(Exception):
    """The bytes carry no good signature. `reason`: not-sign1, wrong-type, foreign-key or bad-signature."""

    def __init__(self, reason: str) -> None:
        self.reason = reason
        super().__init__(reason)


class Signed(NamedTuple):
    """What a good signature covers, and whose it is."""

    payload: bytes
    kid: bytes


def thumbprint(public_key: bytes) -> bytes:
    """Give the COSE key thumbprint of a raw Ed25519 public key."""
    return sha256(encode({1: 1, -1: 6, -2: public_key})).digest()


def sign(payload: bytes, typ: str, kid: bytes, sign_bytes: Callable[[bytes], bytes]) -> bytes:
    """Give the encoded, tagged COSE_Sign1."""
    protected = protected_header(kid, typ)
    return assemble(protected, {}, payload, sign_bytes(to_be_signed(protected, payload)))


def verify(message: bytes, keys: Mapping[bytes, bytes], typ: str) -> Signed:
    """Give the payload if one of `keys` (raw public keys by kid) signed it as `typ`, else raise SignatureRefused."""
    protected, payload, signature = _take_apart(message)
    kid = _kid_of(protected, typ)
    if kid not in keys:
        raise SignatureRefused("foreign-key")
    try:
        _public(keys[kid]).verify(signature, to_be_signed(protected, payload))
    except InvalidSignature as error:
        raise SignatureRefused("bad-signature") from error
    return Signed(payload, kid)


def unverified(message: bytes) -> Signed:
    """Give what a message claims to be, its signature not looked at: for messages whose origin is known otherwise."""
    protected, payload, _ = _take_apart(message)
    match _loads(protected):
        case {4: bytes(kid)}:
            return Signed(payload, kid)
    raise SignatureRefused("wrong-type")


def protected_header(kid: bytes, typ: str) -> bytes:
    """Encode the protected header."""
    return encode({ALG: EDDSA, KID: kid, TYP: typ})


def to_be_signed(protected: bytes, payload: bytes) -> bytes:
    """Encode the Sig_structure of RFC 9052, section 4.4, without external data."""
    return encode(["Signature1", protected, b"", payload])


def assemble(protected: bytes, unprotected: dict[int, object], payload: bytes, signature: bytes) -> bytes:
    """Encode the tagged array of four."""
    return SIGN1_TAG + encode([protected, unprotected, payload, signature])


def _take_apart(message: bytes) -> tuple[bytes, bytes, bytes]:
    match _loads(message.removeprefix(SIGN1_TAG)):
        case [bytes(protected), {}, bytes(payload), bytes(signature)]:
            if assemble(protected, {}, payload, signature) == message:
                return protected, payload, signature
    raise SignatureRefused("not-sign1")


def _kid_of(protected: bytes, typ: str) -> bytes:
    match _loads(protected):
        case {4: bytes(kid)}:
            if protected == protected_header(kid, typ):
                return kid
    raise SignatureRefused("wrong-type")


def _loads(data: bytes) -> object:
    try:
        return decode(data, _DEPTH)
    except NotCbor as error:
        raise SignatureRefused("not-sign1") from error


@lru_cache(maxsize=64)
def _public(raw: bytes) -> Ed25519PublicKey:
    return Ed25519PublicKey.from_public_bytes(raw)
