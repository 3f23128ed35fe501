"""A platform in memory: operators with keys, the trust they are given, and envelopes good and bad."""

import json
from dataclasses import replace
from hashlib import sha256

from buffer.keys import DeviceKey
from config import push as pushes
from config import push_reading
from config.push import CONFIG, TRUST, Envelope, Now, Push, State, encode, signed
from config.trust import Standing
from config.trust_file import read

NOW_S = 1_790_000_000
DAY_S = 86_400
GATEWAY = "station-1"

BEFORE = b"""\
gateway: {id: station-1, language: en}
uplinks:
  province: {url: "mqtt://iot.example.vn:1883"}
links:
  waves:
    driver: simulated
    devices:
      tank: {every: 1s, points: {level: {wave: sine}}}
"""
AFTER = BEFORE.replace(b"every: 1s", b"every: 2s")
CRITICAL = BEFORE.replace(b"iot.example.vn", b"elsewhere.example")


def operator(name: str) -> DeviceKey:
    """Give the key of a person; the same name has the same key."""
    return DeviceKey.from_seed(sha256(name.encode()).digest())


LAN, MINH, HOA, MALLORY = map(operator, ("lan", "minh", "hoa", "mallory"))


def trust_bytes(**changes: object) -> bytes:
    """Give a trust document: Lan or Minh may push, both together what is critical, two of three change the trust."""
    keys = {"lan": LAN, "minh": MINH, "hoa": HOA}
    document = {
        "format": 1,
        "fleet": "quang-ngai",
        "version": 1,
        "epoch": 1,
        "keys": {name: {"type": "Ed25519", "public": key.public_key.hex()} for name, key in keys.items()},
        "roles": {
            "config": {"keys": ["lan", "minh"], "threshold": 1},
            "critical": {"keys": ["lan", "minh"], "threshold": 2},
            "trust": {"keys": ["lan", "minh", "hoa"], "threshold": 2},
        },
        "groups": {"coast": ["station-1", "station-2"]},
        **changes,
    }
    return json.dumps(document).encode()


def all_roles(role: dict[str, object]) -> dict[str, object]:
    """Give one role to all three purposes."""
    return {"config": role, "critical": role, "trust": role}


def standing(**changes: object) -> Standing:
    """Give the trust document as a station holds it."""
    return read(trust_bytes(**changes))


PUSH = Push(
    gateways=(GATEWAY,),
    groups=(),
    platform="province",
    epoch=1,
    version=7,
    issued_s=NOW_S - 60,
    expires_s=NOW_S + DAY_S,
    base=sha256(BEFORE).digest(),
    probation_s=300,
    configuration=AFTER,
)
STATE = State(GATEWAY, "province", BEFORE, epoch=1, version=6, digest=bytes(32))
NOW = Now(NOW_S, 1, NOW_S - DAY_S)


def push(*signers: DeviceKey, **changes: object) -> bytes:
    """Give a push, changed as asked, signed by Lan or by those named."""
    return sealed(Envelope(CONFIG, encode(replace(PUSH, **changes)), ()), *(signers or (LAN,)))


def content(data: bytes, *signers: DeviceKey) -> bytes:
    """Give an envelope around any bytes, well signed."""
    return sealed(Envelope(CONFIG, data, ()), *(signers or (LAN,)))


def new_trust(*signers: DeviceKey, **changes: object) -> bytes:
    """Give a replacement of the trust document, signed by Lan and Minh or by those named."""
    return sealed(Envelope(TRUST, trust_bytes(version=2, **changes), ()), *(signers or (LAN, MINH)))


def sealed(envelope: Envelope, *signers: DeviceKey) -> bytes:
    """Sign an envelope and give its bytes."""
    for signer in signers:
        envelope = signed(envelope, signer.kid, signer.sign)
    return envelope.encode()


def judge(data, trust, state, now):
    """Judge a push, with what it holds read in this process."""
    return pushes.judge(data, trust, state, now, push_reading)
