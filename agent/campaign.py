"""The operator's connection: sends a push to gateways wave by wave, and hears what becomes of it.

What is always true here:

- An envelope is published retained, so that a gateway that is away finds it; nothing of it is looked at or changed.
- Only a result that names this very push counts; one from before is that of another.
- What comes on other topics than those asked for, as some brokers send it, is passed over.
"""

import asyncio
import json
from collections.abc import Callable, Sequence
from hashlib import sha256
from typing import Any

from agent.broker import FIRST_FAILURE, Endpoint, Message, connect
from agent.errors import BrokerRefused
from agent.push_mail import RESULT, SET
from agent.rollout import Rollout

Progress = Callable[[str, str, str], None]
"""Told the gateway, its state and its reason, whenever one changes."""


class Campaign:
    """One envelope to many gateways under a prefix."""

    def __init__(self, endpoint: Endpoint, prefix: str, envelope: bytes, digest: str, progress: Progress) -> None:
        self._endpoint = endpoint
        self._prefix = prefix
        self._envelope = envelope
        self._digest = digest
        self._message_digest = sha256(envelope).hexdigest()
        self._progress = progress
        self._rollout = Rollout((), 0)
        self._changed = asyncio.Event()

    async def send(self, rollout: Rollout, within_s: float) -> Rollout:
        """Send wave by wave; gives how it ended. Raises BrokerDown or BrokerRefused."""
        self._rollout = rollout
        async with await connect(self._endpoint) as session:
            session.on_message = self._heard
            gateways = [name for wave in rollout.plan for name in wave]
            await session.subscribe(*(f"{self._prefix}/{name}/{RESULT}" for name in gateways))
            for number, wave in enumerate(rollout.plan):
                for name in wave:
                    topic = f"{self._prefix}/{name}/{SET}"
                    code = await session.publish(Message(topic, self._envelope, retain=True))
                    if code >= FIRST_FAILURE:
                        raise BrokerRefused(
                            "agent.publish-refused", address=self._endpoint.address, topic=topic, reason=f"0x{code:02X}"
                        )
                await self._until_over(wave, within_s)
                if not rollout.may_go_on(number):
                    break
        return rollout

    async def watch(self, gateways: Sequence[str], within_s: float) -> Rollout:
        """Hear what becomes of an envelope that was sent already."""
        self._rollout = Rollout((tuple(gateways),), 100)
        async with await connect(self._endpoint) as session:
            session.on_message = self._heard
            await session.subscribe(*(f"{self._prefix}/{name}/{RESULT}" for name in gateways))
            await self._until_over(gateways, within_s)
        return self._rollout

    async def _until_over(self, wave: Sequence[str], within_s: float) -> None:
        try:
            async with asyncio.timeout(within_s):
                while not self._rollout.over(wave):
                    self._changed.clear()
                    await self._changed.wait()
        except TimeoutError:
            for name in wave:
                if name not in self._rollout.states:
                    self._note(name, "silent", "")

    def _heard(self, message: Message) -> None:
        name = message.topic.removeprefix(f"{self._prefix}/").removesuffix(f"/{RESULT}")
        if not any(name in wave for wave in self._rollout.plan):
            return
        try:
            result: dict[str, Any] = json.loads(message.payload)
            push, refused = result["push"], result["refused"]
            if push is not None and push["digest"] == self._digest:
                self._note(name, str(push["state"]), str(push["reason"] or ""))
            elif refused is not None and refused["push"] == self._message_digest:
                self._note(name, "refused", str(refused["reason"]))
        except (ValueError, KeyError, TypeError):
            self._note(name, "unreadable", "")

    def _note(self, name: str, state: str, reason: str) -> None:
        if self._rollout.states.get(name) != state:
            self._rollout.states[name] = state
            self._progress(name, state, reason)
        self._changed.set()
