"""The judge of pushes, attack by attack, against a platform in memory."""

import tracemalloc
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
    content,
    judge,
    new_trust,
    operator,
    push,
    sealed,
    standing,
    trust_bytes,
)

from buffer import cbor_item, cose
from config.push import (
    CONFIG,
    SIZE_LIMIT,
    TRUST,
    Accepted,
    Confirmed,
    Envelope,
    Now,
    Rejected,
    Replaced,
    encode,
    shown,
    signed,
    take_apart,
)
from config.trust import TrustInvalid, differing
from config.trust_file import parse, read


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


def test_the_trust_document_is_replaced_by_both_thresholds():
    """The old one's and the new one's."""
    verdict = judge(new_trust(), standing(), STATE, NOW)
    assert isinstance(verdict, Replaced)
    assert verdict.trust.version == 2
    assert verdict.data == trust_bytes(version=2)


# -- what is made up or changed ----------------------------------------------------------------------------------------


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


def test_a_trust_document_signed_by_what_is_no_signature():
    """Looked through for keys that are known, it is refused as it stands."""
    assert reason(Envelope(TRUST, trust_bytes(version=2), (b"no COSE",)).encode()) == "push.not-an-envelope"


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


def test_without_a_trust_document_nothing_is_obeyed():
    """There is nobody to believe."""
    assert judge(push(), None, STATE, NOW) == Rejected("push.no-trust")


def test_trust_document_rolled_back():
    """In the file, or by an envelope that was good once."""
    journalled = replace(STATE, trust_version=2, trust_digest=standing(version=2).digest)
    assert reason(push(), standing(), journalled) == "push.trust-rolled-back"
    assert reason(new_trust(), standing(version=3)) == "push.older-trust"
    assert reason(new_trust(epoch=1), standing(version=1, epoch=2)) == "push.older-trust"
    forgetful = standing(retired=[MALLORY.public_key.hex()])
    assert reason(new_trust(), forgetful) == "push.older-trust"


def test_trust_document_changed_under_its_number():
    """Two documents of one version are one too many."""
    journalled = replace(STATE, trust_version=1, trust_digest=standing().digest)
    assert isinstance(judge(push(), standing(), journalled, NOW), Accepted)
    assert reason(push(), standing(groups={}), journalled) == "push.trust-changed"


def test_a_newer_trust_document_put_here_by_hand_is_believed():
    """Who may write the station's files needs no push."""
    journalled = replace(STATE, trust_version=1, trust_digest=standing().digest)
    assert isinstance(judge(push(), standing(version=3), journalled, NOW), Accepted)


def test_trust_is_not_replaced_by_the_new_keys_alone_or_the_old_alone():
    """Both thresholds, together."""
    keys = {name: {"type": "Ed25519", "public": operator(name).public_key.hex()} for name in ("lan", "new-1", "new-2")}
    role = {"keys": ["new-1", "new-2"], "threshold": 2}
    changes = {"keys": keys, "roles": all_roles(role)}
    new = operator("new-1"), operator("new-2")
    assert reason(new_trust(*new, **changes)) == "push.threshold"
    assert reason(new_trust(LAN, MINH, **changes)) == "push.threshold"
    assert reason(new_trust(LAN, MINH, MALLORY, *new, **changes)) == "push.unknown-key"
    assert isinstance(judge(new_trust(LAN, MINH, *new, **changes), standing(), STATE, NOW), Replaced)


def test_trust_of_another_fleet_and_trust_that_came_already():
    """The one is refused, the other is nothing new."""
    assert reason(new_trust(fleet="da-nang")) == "push.other-fleet"
    state = replace(STATE, trust_version=2, trust_digest=standing(version=2).digest)
    assert reason(new_trust(), standing(version=2), state) == "push.repeated"


@pytest.mark.parametrize(
    "document",
    [
        b"",
        b"[]",
        b"[" * 50_000,
        b'{"format": 1, "format": 1}',
        b'{"format": NaN}',
        b"{}" + b" " * 70_000,
        trust_bytes(version=1.5),
        trust_bytes(version=True),
        trust_bytes(surplus=1),
        trust_bytes(retired=[LAN.public_key.hex()]),
        trust_bytes(roles={"config": {"keys": ["lan"], "threshold": 1}}),
        trust_bytes(roles=all_roles({"keys": ["lan"], "threshold": 2})),
        trust_bytes(roles=all_roles({"keys": ["lan", "lan"], "threshold": 2})),
        trust_bytes(roles=all_roles({"keys": ["eve"], "threshold": 1})),
    ],
)
def test_what_is_no_trust_document(document):
    """It is refused as a whole, and whatever it is raises nothing else."""
    with pytest.raises(TrustInvalid):
        parse(document)


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


def test_what_an_envelope_says_can_be_shown_unproven():
    """For the operator, before he signs."""
    assert shown(push(MALLORY)) == (take_apart(push(MALLORY)), PUSH)
    assert shown(new_trust())[1] is None
    assert shown(b"") == Rejected("push.not-an-envelope")
    assert shown(content(b"")) == Rejected("push.content")


def test_signing_again_replaces_the_signature():
    """One key, one signature."""
    envelope = take_apart(push())
    assert signed(envelope, LAN.kid, LAN.sign) == envelope
    assert sealed(envelope, MINH) == push(MINH, LAN)
