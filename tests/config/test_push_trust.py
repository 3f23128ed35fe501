"""The trust document under attack: replaced, rolled back, forged."""

from dataclasses import replace

import pytest
from operators import (
    LAN,
    MALLORY,
    MINH,
    NOW,
    STATE,
    all_roles,
    judge,
    new_trust,
    operator,
    push,
    standing,
    trust_bytes,
)
from refusals import reason

from config.push import (
    TRUST,
    Accepted,
    Envelope,
    Rejected,
    Replaced,
)
from config.trust import TrustInvalid
from config.trust_file import parse


def test_the_trust_document_is_replaced_by_both_thresholds():
    """The old one's and the new one's."""
    verdict = judge(new_trust(), standing(), STATE, NOW)
    assert isinstance(verdict, Replaced)
    assert verdict.trust.version == 2
    assert verdict.data == trust_bytes(version=2)


# -- what is made up or changed ----------------------------------------------------------------------------------------


def test_a_trust_document_signed_by_what_is_no_signature():
    """Looked through for keys that are known, it is refused as it stands."""
    assert reason(Envelope(TRUST, trust_bytes(version=2), (b"no COSE",)).encode()) == "push.not-an-envelope"


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
