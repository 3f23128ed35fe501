"""The operators of the demonstration: two whom the station knows, one whom it does not, and what they send.

What is always true here:

- The keys are made for one run and never written. What the station knows of them is its trust document, put beside its
  configuration at commissioning: either of the two may push, both together what is critical.
- What is sent goes as any operator's push goes, over the broker alone (`agent.campaign`).
"""

import json
import os
import time
from dataclasses import dataclass, field
from hashlib import sha256

from agent.broker import Endpoint
from agent.campaign import Campaign
from agent.demo.plant import GATEWAY
from agent.demo.screen import Screen
from agent.demo.stage import PREFIX
from agent.rollout import Rollout
from buffer.keys import DeviceKey
from config.push import CONFIG, Envelope, Push, encode, signed

PLATFORM = "province"
PROBATION_S = 10
BEYOND_PROBATION_S = 30
"""Within so much beyond its probation a push must have come to its end."""
PATIENCE_S = 60.0
VALID_S = 3600
EPOCH = 1


def _new_key() -> DeviceKey:
    return DeviceKey.from_seed(os.urandom(32))


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of one push, and how long it took from its sending."""

    name: str
    state: str
    reason: str
    seconds: float

    @property
    def in_time(self) -> bool:
        """Say whether it ended within its probation and what is allowed beyond."""
        return self.seconds <= PROBATION_S + BEYOND_PROBATION_S


@dataclass(slots=True)
class Operators:
    """Sends pushes to the demonstration's station and hears what becomes of them."""

    endpoint: Endpoint
    screen: Screen
    lan: DeviceKey = field(default_factory=_new_key)
    minh: DeviceKey = field(default_factory=_new_key)
    stranger: DeviceKey = field(default_factory=_new_key)
    _version: int = 0

    def trust(self) -> bytes:
        """Give the trust document of the station."""
        keys = {"lan": self.lan, "minh": self.minh}
        one, two = ({"keys": list(keys), "threshold": threshold} for threshold in (1, 2))
        document = {
            "format": 1,
            "fleet": "demo",
            "version": 1,
            "epoch": EPOCH,
            "keys": {name: {"type": "Ed25519", "public": key.public_key.hex()} for name, key in keys.items()},
            "roles": {"config": one, "critical": two, "trust": two},
        }
        return json.dumps(document, indent=2).encode()

    async def send(self, name: str, before: bytes, after: bytes, *signers: DeviceKey) -> Outcome:
        """Sign a configuration, send it, and wait for its end. Raises BrokerDown or BrokerRefused."""
        envelope = self._signed(before, after, signers)
        reasons = [""]

        def progress(_gateway: str, state: str, reason: str) -> None:
            reasons[0] = reason
            self.screen.push(state, reason)

        campaign = Campaign(self.endpoint, PREFIX, envelope.encode(), envelope.digest.hex(), progress)
        began_s = time.monotonic()
        ended = await campaign.send(Rollout(((GATEWAY,),), 0), PATIENCE_S)
        return Outcome(name, ended.states[GATEWAY], reasons[0], time.monotonic() - began_s)

    def _signed(self, before: bytes, after: bytes, signers: tuple[DeviceKey, ...]) -> Envelope:
        self._version += 1
        now_s = int(time.time())
        push = Push(
            gateways=(GATEWAY,),
            groups=(),
            platform=PLATFORM,
            epoch=EPOCH,
            version=self._version,
            issued_s=now_s,
            expires_s=now_s + VALID_S,
            base=sha256(before).digest(),
            probation_s=PROBATION_S,
            configuration=after,
        )
        envelope = Envelope(CONFIG, encode(push), ())
        for signer in signers:
            envelope = signed(envelope, signer.kid, signer.sign)
        return envelope
