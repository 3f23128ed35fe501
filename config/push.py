"""The judge of what a platform asks for: bytes, trust, state and clock in; a configuration or a reason code out.

What is always true here:

- Pure: nothing is read, written or remembered. Whatever the bytes are, the outcome is a verdict, never an exception.
- What reads YAML and trust documents is passed in: it may be a process of its own, and is asked only about bytes that
  enough keys have signed.
- Size before shape, shape before signatures, signatures before content, content before the configuration in it. What
  is not signed by enough keys is never interpreted.
- There is one encoding of an envelope, and every signature in it must be good: no bit of it can change.
- A verdict is `Accepted` only if all of it holds: threshold, addressee, platform, key epoch, version, time, critical
  settings, base. Each way to fail has one code, a key into `config/locale`; `config/PUSH.md` lists them in this order.
- A trust document is replaced by the threshold of the old one and of the new one together, and never by an older one.
- Time is judged where it is known: a synchronised clock within its error, else only that `floor_s` has passed.

The agent enters. Of the buffer, `cose` alone is known here.
"""

from collections.abc import Callable, Mapping
from hashlib import sha256
from typing import Protocol

from buffer.cose import SignatureRefused, sign, thumbprint, unverified, verify
from config.envelope import CONFIG, SIZE_LIMIT, TRUST, Envelope, Malformed, Push, decode, encode, take_apart
from config.errors import ConfigFaults
from config.trust import Role, Standing, Trust, TrustInvalid
from config.verdict import Accepted, Confirmed, Now, Rejected, Replaced, State

__all__ = [
    "CONFIG",
    "SIZE_LIMIT",
    "TRUST",
    "Accepted",
    "Confirmed",
    "Envelope",
    "Now",
    "Push",
    "Rejected",
    "Replaced",
    "State",
    "encode",
    "take_apart",
]


class _Refused(Exception):
    """Carries a verdict out of the judge's rooms."""

    def __init__(self, code: str, accepted: Accepted | None = None) -> None:
        self.verdict = Rejected(code, accepted)
        super().__init__(code)


# -- judging -----------------------------------------------------------------------------------------------------------


class Readers(Protocol):
    """What reads the two languages that a push may hold."""

    def trust(self, data: bytes) -> Standing:
        """Read a trust document. Raises TrustInvalid."""
        ...

    def touched(self, before: bytes, after: bytes, critical: tuple[str, ...]) -> tuple[str, ...]:
        """Name the critical settings that two configurations write differently.

        One that cannot be read differs in all of them from `after`. Raises ConfigFaults where that cannot be read.
        """
        ...


def judge(
    data: bytes, trust: Standing | None, state: State, now: Now, readers: Readers
) -> Accepted | Replaced | Rejected:
    """Judge what came over the uplink that `state` names. Raises what only the readers may."""
    try:
        envelope = take_apart(data)
        known = _standing(trust, state)
        _check_news(envelope, state)
        if envelope.typ == TRUST:
            return _judge_trust(envelope, known, state, readers)
        return _judge_push(envelope, known, state, now, readers)
    except Malformed as malformed:
        return Rejected(malformed.code)
    except _Refused as refused:
        return refused.verdict


def _standing(trust: Standing | None, state: State) -> Trust:
    """Give the trust document if it is the one that was journalled, or a newer one put here by hand."""
    if trust is None:
        raise _Refused("push.no-trust")
    if trust.document.version < state.trust_version:
        raise _Refused("push.trust-rolled-back")
    if trust.document.version == state.trust_version and trust.digest != state.trust_digest:
        raise _Refused("push.trust-changed")
    return trust.document


def _check_news(envelope: Envelope, state: State) -> None:
    """What was judged already is nothing new, whoever sends it again, and also if its keys were retired since."""
    known = (state.digest, state.trust_digest)
    if envelope.digest in known and envelope.digest != state.accepted_remote:
        raise _Refused("push.repeated")


def _signers(
    envelope: Envelope, publics: tuple[bytes, ...], retired: frozenset[bytes], *, strangers: bool = False
) -> frozenset[bytes]:
    """Give the public keys that signed: each once, each good, and each known unless `strangers` are passed over."""
    keys = {thumbprint(public): public for public in publics}
    theirs = [signature for signature in envelope.signatures if not strangers or _claimed(signature) in keys]
    found = [_signer(envelope, signature, keys, retired) for signature in theirs]
    if len(set(found)) != len(found):
        raise _Refused("push.repeated-key")
    if found != sorted(found):
        raise _Refused("push.not-an-envelope")
    return frozenset(keys[kid] for kid in found)


def _claimed(signature: bytes) -> bytes:
    try:
        return unverified(signature).kid
    except SignatureRefused as refused:
        raise _Refused(_REASONS[refused.reason]) from refused


_REASONS = {
    "not-sign1": "push.not-an-envelope",
    "wrong-type": "push.wrong-type",
    "foreign-key": "push.unknown-key",
    "bad-signature": "push.bad-signature",
}


def _signer(envelope: Envelope, signature: bytes, keys: Mapping[bytes, bytes], retired: frozenset[bytes]) -> bytes:
    try:
        signed = verify(signature, keys, envelope.typ)
    except SignatureRefused as refused:
        if refused.reason == "foreign-key" and _claimed(signature) in retired:
            raise _Refused("push.retired-key") from refused
        raise _Refused(_REASONS[refused.reason]) from refused
    if signed.payload != envelope.digest:
        raise _Refused("push.mixed-parts")
    return signed.kid


def _require(signers: frozenset[bytes], trust: Trust, role: Role, code: str) -> None:
    if len(signers & trust.of(role)) < role.threshold:
        raise _Refused(code)


def _retired(trust: Trust) -> frozenset[bytes]:
    return frozenset(thumbprint(bytes.fromhex(public)) for public in trust.retired)


def _judge_trust(envelope: Envelope, old: Trust, state: State, readers: Readers) -> Replaced:
    """Old and new threshold together. The new document is read once the old threshold is met."""
    signers = _signers(envelope, old.publics, _retired(old), strangers=True)
    _require(signers, old, old.roles.trust, "push.threshold")
    try:
        new = readers.trust(envelope.content).document
    except TrustInvalid as invalid:
        raise _Refused("push.trust-invalid") from invalid
    signers = _signers(envelope, tuple(dict.fromkeys((*old.publics, *new.publics))), _retired(old))
    _require(signers, new, new.roles.trust, "push.threshold")
    if new.fleet != old.fleet:
        raise _Refused("push.other-fleet")
    if new.version <= old.version or new.epoch < old.epoch or not set(old.retired) <= set(new.retired):
        raise _Refused("push.older-trust")
    if state.busy:
        raise _Refused("push.busy")
    return Replaced(new, envelope.content)


def _judge_push(envelope: Envelope, trust: Trust, state: State, now: Now, readers: Readers) -> Accepted:
    signers = _signers(envelope, trust.publics, _retired(trust))
    _require(signers, trust, trust.roles.config, "push.threshold")
    push = decode(envelope.content)
    _check_addressee(push, trust, state)
    let_in = envelope.digest == state.accepted_remote
    if not let_in:
        _check_version(push, trust, state)
    _check_time(push, now)
    _check_back(push, state)
    if _critical(push, trust, state, readers):
        _require(signers, trust, trust.roles.critical, "push.critical")
    accepted = Accepted(push, envelope.digest)
    if push.base != (state.files or sha256(state.current).digest()) and not let_in:
        raise _Refused("push.base-changed", accepted)
    return accepted


def _check_addressee(push: Push, trust: Trust, state: State) -> None:
    if not trust.addresses(state.gateway, push.gateways, push.groups):
        raise _Refused("push.other-gateway")
    if push.platform != state.platform:
        raise _Refused("push.other-platform")


def _check_version(push: Push, trust: Trust, state: State) -> None:
    if push.epoch != trust.epoch:
        raise _Refused("push.other-epoch")
    if state.busy:
        raise _Refused("push.busy")
    if push.epoch != state.epoch:
        return
    if push.back_from is not None:
        if push.back_from != state.version:
            raise _Refused("push.older-version")
    elif push.version == state.version:
        raise _Refused("push.same-version")
    elif push.version < state.version:
        raise _Refused("push.older-version")


def _check_time(push: Push, now: Now) -> None:
    """Expired where it certainly is; not yet valid only where the clock is synchronised."""
    latest_s = now.floor_s if now.wall_s is None else max(now.floor_s, now.wall_s - now.error_s)
    if latest_s > push.expires_s:
        raise _Refused("push.expired")
    if now.wall_s is not None and now.wall_s + now.error_s < push.issued_s:
        raise _Refused("push.not-yet-valid")


def _check_back(push: Push, state: State) -> None:
    """Going back leads to what was confirmed here under that number, byte for byte."""
    if push.back_from is not None and Confirmed(push.epoch, push.version, push.target) not in state.confirmed:
        raise _Refused("push.back-unknown")


def _critical(push: Push, trust: Trust, state: State, readers: Readers) -> tuple[str, ...]:
    try:
        return readers.touched(state.current, push.configuration, trust.critical)
    except ConfigFaults as faults:
        raise _Refused("push.unreadable") from faults


# -- making and showing ------------------------------------------------------------------------------------------------


def signed(envelope: Envelope, kid: bytes, sign_bytes: Callable[[bytes], bytes]) -> Envelope:
    """Add a signature, or replace the one of the same key."""
    others = [signature for signature in envelope.signatures if unverified(signature).kid != kid]
    mine = sign(envelope.digest, envelope.typ, kid, sign_bytes)
    ordered = sorted([*others, mine], key=lambda signature: unverified(signature).kid)
    return Envelope(envelope.typ, envelope.content, tuple(ordered))


def shown(data: bytes) -> tuple[Envelope, Push | None] | Rejected:
    """Give what an envelope says, nothing of it proven: for the operator's eyes. A trust document has no push."""
    try:
        envelope = take_apart(data)
        return envelope, decode(envelope.content) if envelope.typ == CONFIG else None
    except Malformed as malformed:
        return Rejected(malformed.code)
