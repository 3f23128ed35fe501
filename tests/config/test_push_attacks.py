"""The judge of pushes, attack by attack, against a platform in memory."""

from dataclasses import replace
from hashlib import sha256

import pytest
from operators import (
    AFTER,
    BEFORE,
    CRITICAL,
    DAY_S,
    HOA,
    LAN,
    MALLORY,
    MINH,
    NOW,
    NOW_S,
    PUSH,
    STATE,
    all_roles,
    judge,
    new_trust,
    push,
    sealed,
    standing,
    trust_bytes,
)
from refusals import reason, signatures

from buffer import cbor_item, cose
from config.push import (
    CONFIG,
    TRUST,
    Accepted,
    Confirmed,
    Envelope,
    Now,
    Rejected,
    Replaced,
    encode,
    signed,
    take_apart,
)
from config.trust import TrustInvalid, differing
from config.trust_file import parse, read


def test_a_good_push_is_accepted():
    """All of it holds: the very bytes come out."""
    verdict = judge(push(), standing(), STATE, NOW)
    assert verdict == Accepted(PUSH, sha256(encode(PUSH)).digest())
    assert verdict.push.target == sha256(AFTER).digest()


def test_a_push_to_a_group_reaches_its_members():
    """The trust document says who is in a group."""
    assert isinstance(judge(push(gateways=(), groups=("coast",)), standing(), STATE, NOW), Accepted)
    assert (
        reason(push(gateways=(), groups=("coast",)), state=replace(STATE, gateway="station-3")) == "push.other-gateway"
    )
    assert reason(push(gateways=(), groups=("hills",))) == "push.other-gateway"


def test_a_critical_setting_takes_both_signatures():
    """Uplinks are critical unless the trust document says otherwise."""
    assert reason(push(configuration=CRITICAL)) == "push.critical"
    assert isinstance(judge(push(LAN, MINH, configuration=CRITICAL), standing(), STATE, NOW), Accepted)
    assert isinstance(judge(push(configuration=CRITICAL), standing(critical=["buffer"]), STATE, NOW), Accepted)


def test_a_point_that_becomes_writable_is_critical():
    """Under whatever link and device it stands."""
    writable = BEFORE.replace(b"{wave: sine}", b"{wave: sine, writable: {min: 0, max: 1}}")
    assert reason(push(configuration=writable)) == "push.critical"


def test_forged():
    """Somebody else's key, also under the name of one that is trusted."""
    assert reason(push(MALLORY)) == "push.unknown-key"
    forged = cose.sign(sha256(encode(PUSH)).digest(), CONFIG, LAN.kid, MALLORY.sign)
    assert reason(Envelope(CONFIG, encode(PUSH), (forged,)).encode()) == "push.bad-signature"


def test_edited():
    """The content after it was signed."""
    good = take_apart(push())
    edited = good.content.replace(b"every: 2s", b"every: 9s")
    assert edited != good.content
    assert reason(Envelope(CONFIG, edited, good.signatures).encode()) == "push.mixed-parts"


def test_a_foreign_signature_beside_a_good_one_spoils_both():
    """Every signature must be good: an envelope has one form."""
    assert reason(push(LAN, MALLORY)) == "push.unknown-key"


def test_mixed_parts():
    """The signature of one push on the content of another, alone and beside a good one."""
    one, other = push(), push(MINH, version=8)
    mixed = Envelope(CONFIG, take_apart(one).content, signatures(other)).encode()
    assert reason(mixed) == "push.mixed-parts"
    both = sorted([*signatures(one), *signatures(other)], key=lambda one: cose.unverified(one).kid)
    assert reason(Envelope(CONFIG, take_apart(one).content, tuple(both)).encode()) == "push.mixed-parts"


def test_a_signature_made_for_something_else():
    """A block, a trust document: `typ` stands under the signature."""
    for typ in ("trambien-block", TRUST):
        wrong = cose.sign(sha256(encode(PUSH)).digest(), typ, LAN.kid, LAN.sign)
        assert reason(Envelope(CONFIG, encode(PUSH), (wrong,)).encode()) == "push.wrong-type"


def test_unknown_key_type():
    """An algorithm that is not EdDSA; a key of another type in the trust document."""
    digest = sha256(encode(PUSH)).digest()
    header = cbor_item.encode({1: -7, 4: LAN.kid, 16: CONFIG})
    signature = cose.assemble(header, {}, digest, LAN.sign(cose.to_be_signed(header, digest)))
    assert reason(Envelope(CONFIG, encode(PUSH), (signature,)).encode()) == "push.wrong-type"
    keys = {"lan": {"type": "ES256", "public": LAN.public_key.hex()}}
    with pytest.raises(TrustInvalid):
        parse(trust_bytes(keys=keys))
    assert reason(new_trust(keys=keys)) == "push.trust-invalid"


def test_retired_key():
    """Named as retired, it is said to be; taken out without a word, it is unknown."""
    keys = {name: {"type": "Ed25519", "public": key.public_key.hex()} for name, key in (("minh", MINH), ("hoa", HOA))}
    role = {"keys": ["minh", "hoa"], "threshold": 1}
    changes = {"keys": keys, "roles": all_roles(role)}
    assert reason(push(), standing(**changes, retired=[LAN.public_key.hex()])) == "push.retired-key"
    assert reason(push(), standing(**changes)) == "push.unknown-key"
    assert reason(push(LAN, MINH), standing(**changes, retired=[LAN.public_key.hex()])) == "push.retired-key"


# -- who has to sign ---------------------------------------------------------------------------------------------------


def test_threshold_unmet():
    """A key of another role does not count, nor does one where two are asked for."""
    assert reason(push(HOA)) == "push.threshold"
    roles = {"keys": ["lan", "minh"], "threshold": 2}
    assert reason(push(), standing(roles=all_roles(roles))) == "push.threshold"


def test_one_key_counted_twice():
    """The same signature twice, and the same key under two names."""
    two = {"keys": ["lan", "minh"], "threshold": 2}
    trust = standing(roles=all_roles(two))
    envelope = take_apart(push())
    assert reason(replace(envelope, signatures=envelope.signatures * 2).encode(), trust) == "push.repeated-key"
    lan = {"type": "Ed25519", "public": LAN.public_key.hex()}
    with pytest.raises(TrustInvalid):
        parse(trust_bytes(keys={"lan": lan, "minh": lan, "hoa": lan}))


def test_signatures_in_another_order():
    """There is one encoding of what was signed."""
    envelope = take_apart(push(LAN, MINH))
    assert reason(replace(envelope, signatures=envelope.signatures[::-1]).encode()) == "push.not-an-envelope"


# -- for whom, in which order, when ------------------------------------------------------------------------------------


def test_other_gateway():
    """What was meant for a neighbour."""
    assert reason(push(gateways=("station-2",))) == "push.other-gateway"
    assert reason(push(gateways=())) == "push.other-gateway"


def test_replay_across_platforms():
    """What one platform may ask does not come in through another."""
    assert reason(push(), state=replace(STATE, platform="factory")) == "push.other-platform"


def test_older_version():
    """However well it was signed once."""
    assert reason(push(version=5)) == "push.older-version"


def test_same_version_same_bytes_is_nothing_new():
    """Also after its key was retired, and with whatever signature."""
    state = replace(STATE, version=7, digest=sha256(encode(PUSH)).digest())
    assert reason(push(), state=state) == "push.repeated"
    assert reason(push(MALLORY), state=state) == "push.repeated"


def test_same_version_other_bytes():
    """Two pushes of one number are one too many."""
    assert reason(push(version=6)) == "push.same-version"


def test_expired():
    """By a synchronised clock within its error; by any clock once the floor has passed."""
    late = Now(NOW_S + 2 * DAY_S, 1, NOW_S)
    assert reason(push(), now=late) == "push.expired"
    assert reason(push(), now=Now(None, 0, NOW_S + 2 * DAY_S)) == "push.expired"
    assert isinstance(judge(push(), standing(), STATE, Now(NOW_S + DAY_S + 5, 10, 0)), Accepted)


def test_an_unsynchronised_clock_expires_nothing_by_itself():
    """What it says is not looked at: only that the floor has passed is known."""
    assert isinstance(judge(push(), standing(), STATE, Now(None, 0, NOW_S - DAY_S)), Accepted)


def test_not_yet_valid():
    """By a synchronised clock alone: any other may be behind."""
    early = NOW_S - 2 * DAY_S
    assert reason(push(), now=Now(early, 1, 0)) == "push.not-yet-valid"
    assert isinstance(judge(push(), standing(), STATE, Now(None, 0, early)), Accepted)
    assert isinstance(judge(push(), standing(), STATE, Now(NOW_S - 65, 10, 0)), Accepted)


def test_fast_forwarded_version_and_its_recovery():
    """A stolen key signed the largest number; the next key epoch begins anew, and the old key is out of it."""
    stuck = replace(STATE, version=2**53 - 1)
    assert reason(push(version=8), state=stuck) == "push.older-version"
    assert reason(push(version=2**53)) == "push.content"
    keys = {name: {"type": "Ed25519", "public": key.public_key.hex()} for name, key in (("minh", MINH), ("hoa", HOA))}
    role = {"keys": ["minh", "hoa"], "threshold": 1}
    renewed = new_trust(
        MINH,
        HOA,
        epoch=2,
        keys=keys,
        roles=all_roles(role),
        retired=[LAN.public_key.hex()],
    )
    verdict = judge(renewed, standing(), stuck, NOW)
    assert isinstance(verdict, Replaced)
    trust = read(verdict.data)
    state = replace(stuck, trust_version=2, trust_digest=trust.digest)
    assert isinstance(judge(push(MINH, epoch=2, version=1), trust, state, NOW), Accepted)
    assert reason(push(MINH, version=2**53 - 1), trust, state) == "push.other-epoch"
    assert reason(push(LAN, epoch=2, version=2), trust, state) == "push.retired-key"


def test_a_push_of_another_key_epoch():
    """Neither of one that is over nor of one to come."""
    assert reason(push(epoch=2)) == "push.other-epoch"
    assert reason(push(), standing(epoch=2)) == "push.other-epoch"


def test_one_in_flight():
    """Whatever comes meanwhile is refused, and its number is not used up; a repeat of it is nothing new."""
    state = replace(STATE, busy=True)
    assert reason(push(), state=state) == "push.busy"
    assert reason(new_trust(), state=state) == "push.busy"


# -- going back --------------------------------------------------------------------------------------------------------


def test_going_back_needs_a_permission_that_was_signed():
    """It names where from, and leads to what was confirmed here, byte for byte."""
    confirmed = (Confirmed(1, 3, sha256(AFTER).digest()),)
    state = replace(STATE, confirmed=confirmed)
    assert reason(push(version=3), state=state) == "push.older-version"
    assert isinstance(judge(push(version=3, back_from=6), standing(), state, NOW), Accepted)
    assert reason(push(version=3, back_from=5), state=state) == "push.older-version"
    assert reason(push(version=2, back_from=6), state=state) == "push.back-unknown"
    changed = push(version=3, back_from=6, configuration=AFTER + b"\n")
    assert reason(changed, state=state) == "push.back-unknown"
    assert reason(push(version=7, back_from=6)) == "push.content"


# -- edited here -------------------------------------------------------------------------------------------------------


def test_a_push_based_on_another_file_is_refused_and_kept():
    """A technician's edit is never overwritten; what was refused could still be let in by him."""
    edited = replace(STATE, current=BEFORE + b"# mine\n")
    verdict = judge(push(), standing(), edited, NOW)
    assert verdict == Rejected("push.base-changed", Accepted(PUSH, sha256(encode(PUSH)).digest()))
    let_in = replace(edited, version=7, digest=verdict.accepted.digest, accepted_remote=verdict.accepted.digest)
    assert judge(push(), standing(), let_in, NOW) == verdict.accepted


def test_where_there_are_several_files_the_base_is_the_digest_of_them_all():
    """The main file alone is not what stands there then."""
    several = replace(STATE, files=sha256(b"all files").digest())
    assert reason(push(), state=several) == "push.base-changed"
    assert isinstance(judge(push(base=several.files), standing(), several, NOW), Accepted)


def test_letting_in_one_push_lets_in_no_other():
    """The technician's word is for those bytes, and they are judged again."""
    edited = replace(STATE, current=BEFORE + b"# mine\n", accepted_remote=sha256(encode(PUSH)).digest())
    assert reason(push(version=8), state=edited) == "push.base-changed"
    assert reason(push(MALLORY), state=edited) == "push.unknown-key"
    assert reason(push(), state=edited, now=Now(NOW_S + 2 * DAY_S)) == "push.expired"


# -- bytes -------------------------------------------------------------------------------------------------------------


def test_touched_names_the_patterns():
    """A star is any one key; what is only moved counts as changed."""
    before = {"a": {"x": 1, "y": 2}, "b": 3, "c": {"p": {"w": 1}}}
    after = {"a": {"y": 2, "x": 1}, "b": 3, "c": {"p": {"w": 1}, "q": {"w": 2}}}
    assert differing(before, after, ("a", "b", "c.*.w", "c.p.w", "d", "b.z")) == ("a", "c.*.w")
    assert differing(before, None, ("b",)) == ("b",)


def test_a_file_that_cannot_be_read_counts_as_all_different():
    """Whatever stood in it, two signatures are asked for."""
    broken = replace(STATE, current=b"\xff")
    assert reason(push(base=sha256(b"\xff").digest()), state=broken) == "push.critical"


# -- showing -----------------------------------------------------------------------------------------------------------


def test_signing_again_replaces_the_signature():
    """One key, one signature."""
    envelope = take_apart(push())
    assert signed(envelope, LAN.kid, LAN.sign) == envelope
    assert sealed(envelope, MINH) == push(MINH, LAN)
