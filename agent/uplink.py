"""An uplink: one platform, the streams it is given, and the connection that comes and goes.

What is always true here:

- Only committed blocks are sent (B3): they come from the recorder, which learns of a commit after it returned.
- What was acknowledged belongs to the uplink's name and the stream, not to the connection or the address: a lost
  session repeats what was in flight and nothing else, and uplinks know nothing of each other.
- A platform gets no byte of a stream it is not given, nor a word about that stream's devices in its `state`. One whose
  format has topics of its own (ThingsBoard) gets neither `state` nor `online`.
- A session lost is an event once the next one stands, with its cause and how long there was none.
- When the files of its certificates change, or its first address answers again, a connection is renewed in order: what
  is in flight lands first. Files that cannot be used change nothing.
"""

import asyncio
import contextlib
import random
from collections.abc import Callable, Coroutine, Sequence
from typing import Any, NoReturn

from agent import tls
from agent.beat import beat
from agent.broker import CONNECT_TIMEOUT_S, NO_MATCHING_SUBSCRIBERS, Endpoint, Message, Session, connect
from agent.carrier import Carriage, Carrier, Memory
from agent.companions import until_one_ends
from agent.confirm import Unconfirmed
from agent.dispatch import Answers
from agent.errors import BrokerDown, BrokerRefused
from agent.health import UplinkHealth
from agent.inbox import ACK, RESEND, Inbox
from agent.kept import Kept
from agent.lanes import Lanes
from agent.log import Log
from agent.lookout import Lookout
from agent.pacing import Brakes, Bucket
from agent.presence import Presence, failed, online
from agent.recorder import Recorder
from agent.resend import Resends
from agent.route import RETURN_S, SHORT_SESSIONS, Route
from agent.sockets import reachable
from agent.start import CHOSEN, is_chosen, skipped
from agent.state import State
from buffer.errors import BufferFault

LOOK_AT_FILES_S = 5.0
LEAVE_S = 5.0
UNREADABLE_S = 2.0

Pushes = Callable[[Session, Callable[[Message], object]], Coroutine[Any, Any, None]]
"""Hears configuration pushes over a session, given the way to publish what stays on its topic."""

_log = Log("uplink")


class _Renew(Exception):
    """The connection shall be ended in order and made again."""


class Uplink:
    """One platform. `run` until cancelled; `drained` tells when everything is acknowledged."""

    def __init__(
        self,
        carriage: Carriage,
        endpoints: Sequence[Endpoint],
        recorder: Recorder,
        health: UplinkHealth,
        state: State,
        rng: random.Random,
        pushes: Pushes | None = None,
    ) -> None:
        self._carriage = carriage
        self._pushes = pushes
        self._house = carriage.encoding.house
        self._route = Route(endpoints, rng)
        self._recorder = recorder
        self._health = health
        self._state = state
        self._carrier: Carrier | None = None
        lanes = Lanes(
            {stream: (recorder.settled(carriage.name, stream), recorder.head(stream)) for stream in carriage.streams},
            newest_first=carriage.newest_first,
        )
        within_s = carriage.confirm_within_s
        self._memory = Memory(
            lanes,
            Bucket(carriage.max_rate, asyncio.get_running_loop().time()),
            Brakes(),
            None if within_s is None else Unconfirmed(within_s),
        )
        self._resends = Resends(recorder.read, recorder.head)
        self._lookout = Lookout(carriage.name, recorder, health)
        self._count()
        recorder.listeners.append(self._committed)

    async def run(self) -> None:
        """Connect, serve, back off, again."""
        await self._choose_starts()
        async with asyncio.TaskGroup() as group:
            group.create_task(self._lookout.run(), name=f"lookout {self._carriage.name}")
            await self._go_on()

    async def _go_on(self) -> NoReturn:
        while True:
            try:
                await self._connect_and_serve(self._route.endpoint)
            except _Renew:
                self._health.connected = False
                self._route.restart()
                continue
            except (BrokerDown, BrokerRefused) as error:
                self._disconnected(error)
            await asyncio.sleep(self._route.pause_s())

    async def drained(self) -> None:
        """Wait until every block is acknowledged, for as long as a session lasts."""
        while self._health.connected and any(self._health.pending.values()):  # noqa: ASYNC110 - once, when leaving
            await asyncio.sleep(0.02)

    def retire(self) -> None:
        """Hear of commits no more; `run` has ended. What was acknowledged stays with the recorder."""
        self._recorder.listeners.remove(self._committed)

    async def _choose_starts(self) -> None:
        """Choose, once for each stream, where a new uplink begins."""
        for stream in self._carriage.streams:
            settled = self._recorder.settled(self._carriage.name, stream)
            while not is_chosen(settled):
                try:
                    last = await skipped(self._carriage.start, stream, self._recorder.head(stream), self._recorder.read)
                except BufferFault:  # told by the recorder; the store is opened again with the next commit
                    await asyncio.sleep(UNREADABLE_S)
                    continue
                self._recorder.settle_range(self._carriage.name, stream, CHOSEN, last)
                _log.info("uplink-begins", uplink=self._carriage.name, stream=stream, behind=last)
        self._count()

    def _count(self) -> None:
        self._health.pending = {stream: self._memory.lanes.pending(stream) for stream in self._carriage.streams}

    # -- one session -----------------------------------------------------------------------------------------------

    async def _connect_and_serve(self, endpoint: Endpoint) -> None:
        """Serve over one connection until it ends; raises why."""
        files = tls.fingerprint(endpoint.files)
        self._lookout.certificate(endpoint.cert)
        try:
            session = await connect(endpoint, self._online(up=False) if self._house else None)
        except (BrokerDown, BrokerRefused):
            self._route.unreachable()
            raise
        loop = asyncio.get_running_loop()
        began_s = loop.time()
        async with session:
            self._connected(endpoint)
            try:
                await self._serve(session, endpoint, files)
            except (BrokerDown, BrokerRefused):
                self._route.ended(loop.time() - began_s)
                raise

    async def _serve(self, session: Session, endpoint: Endpoint, files: tls.Fingerprint) -> None:
        """Carry blocks until the connection ends; raises why."""
        answers = Answers(
            lambda topic, code: self._refused(endpoint, topic, code),
            lambda message: self._retained(session, endpoint, message),
            lambda topic, size, most: self._too_large(endpoint, topic, size, most),
            self._unconfirmed,
        )
        carrier = Carrier(self._carriage, session, self._memory, self._recorder, self._health, answers)
        presence = Presence(self._carriage.root, session, self._state, answers)
        inbox = Inbox(self._carriage.root, self._carriage.streams, self._topics(), carrier, self._resends, self._unfit)
        self._carrier = carrier
        name = self._carriage.name
        companions = [
            asyncio.create_task(carrier.run(), name=f"carry {name}"),
            asyncio.create_task(inbox.run(session), name=f"inbox {name}"),
            asyncio.create_task(self._resends.run(carrier.repeat), name=f"resend {name}"),
            asyncio.create_task(self._until_files_change(endpoint, files), name=f"files {name}"),
            asyncio.create_task(self._until_first_answers(), name=f"return {name}"),
        ]
        if self._pushes is not None:
            pushes = self._pushes(session, lambda message: self._retained(session, endpoint, message))
            companions.append(asyncio.create_task(pushes, name=f"pushes {name}"))
        if self._house:
            companions.append(asyncio.create_task(presence.run(self._online(up=True)), name=f"state {name}"))
        try:
            await until_one_ends(session.ended, companions)
        except _Renew:
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(carrier.leave(), LEAVE_S)
            raise
        finally:
            self._carrier = None
            carrier.end()
            if self._house and not session.ended.done():
                await presence.farewell(self._online(up=False))

    def _topics(self) -> tuple[str, ...]:
        confirming = (ACK,) if self._memory.unconfirmed is not None else ()
        return (*confirming, RESEND) if self._carriage.resend else confirming

    async def _until_files_change(self, endpoint: Endpoint, files: tls.Fingerprint) -> None:
        """Raise _Renew when certificates were renewed and can be used."""
        refused = files
        while True:
            await beat(LOOK_AT_FILES_S)
            now = tls.fingerprint(endpoint.files)
            if now in (files, refused) or endpoint.ca is None:
                continue
            try:
                tls.context(endpoint.ca, endpoint.cert, endpoint.key)
            except BrokerRefused as error:  # half written, or not a pair yet
                refused = now
                _log.warning("certificates-unusable", uplink=self._carriage.name, error=error)
            else:
                _log.info("certificates-changed", uplink=self._carriage.name)
                raise _Renew

    async def _until_first_answers(self) -> None:
        """Raise _Renew when the first address can be used again."""
        while True:
            await asyncio.sleep(RETURN_S)
            first = self._route.first
            if first is not None and await reachable(first, CONNECT_TIMEOUT_S):
                _log.info("first-address-answers", uplink=self._carriage.name, address=first.address)
                raise _Renew

    # -- what is heard ---------------------------------------------------------------------------------------------

    def _retained(self, session: Session, endpoint: Endpoint, message: Message) -> asyncio.Future[int]:
        """Publish what stays on its topic: whether somebody is subscribed does not matter, a refusal does."""
        answer = session.publish(message)

        def judge(answer: asyncio.Future[int]) -> None:
            if (code := failed(answer)) is not None:
                self._refused(endpoint, message.topic, code)

        answer.add_done_callback(judge)
        return answer

    def _committed(self, kept: Sequence[Kept]) -> None:
        for block in kept:
            if block.stream in self._carriage.streams:
                self._memory.lanes.committed(block.stream, block.position, fresh=self._carrier is not None)
                self._health.commit(block.stream)
        if self._carrier is not None:
            self._carrier.wake()

    def _refused(self, endpoint: Endpoint, topic: str, code: int) -> None:
        """Report, once, that the broker refuses what it is sent. Mosquitto hangs up after it, so it is kept apart."""
        what = "agent.no-subscriber" if code == NO_MATCHING_SUBSCRIBERS else "agent.publish-refused"
        error = BrokerRefused(what, address=endpoint.address, topic=topic, reason=f"0x{code:02X}")
        if self._health.refusal is None:
            _log.error("publish-refused", uplink=self._carriage.name, error=error)
        self._health.refusal = (error.code, error.fields)

    def _too_large(self, endpoint: Endpoint, topic: str, size: int, most: int) -> None:
        """Report that the broker cannot take a message."""
        fields = {"address": endpoint.address, "topic": topic, "size": size, "most": most}
        self._health.refusal = ("agent.too-large", fields)

    def _unconfirmed(self, blocks: int) -> None:
        """Report that the platform does not confirm what the broker took."""
        if self._health.refusal is None:
            _log.error("unconfirmed", uplink=self._carriage.name, blocks=blocks)
        self._health.refusal = ("agent.unconfirmed", {"blocks": blocks, "uplink": self._carriage.name})

    def _unfit(self, topic: str, reason: str) -> None:
        """Report a message of the platform that is not obeyed."""
        _log.warning("message-ignored", uplink=self._carriage.name, topic=topic, reason=reason)
        self._recorder.event(
            "message-ignored", streams=self._carriage.streams, message=f"{self._carriage.name}/{topic}", reason=reason
        )

    def _connected(self, endpoint: Endpoint) -> None:
        self._health.connected = True
        self._health.sessions += 1
        self._health.error = None
        _log.info("uplink-connected", uplink=self._carriage.name, address=endpoint.address)
        outage_ns = self._health.quality.connected(self._recorder.clock.boot_ns())
        if outage_ns is not None:
            cause = self._health.quality.cause
            self._recorder.event(
                "uplink-back",
                streams=self._carriage.streams,
                uplink=self._carriage.name,
                cause=cause,
                after_ns=outage_ns,
            )

    def _disconnected(self, error: BrokerDown | BrokerRefused) -> None:
        """Log why when it begins, and keep it for `status`."""
        self._health.connected = False
        self._health.quality.lost(self._recorder.clock.boot_ns(), error.code)
        lost = error.code == "agent.broker-lost" and self._health.refusal is None
        if lost and self._route.short_sessions >= SHORT_SESSIONS:
            error = BrokerRefused("agent.taken-away", client=self._route.endpoint.client_id, **error.fields)
        if self._health.error is None or self._health.error[0] != error.code:
            level = _log.error if isinstance(error, BrokerRefused) else _log.warning
            level("uplink-trouble", uplink=self._carriage.name, error=error)
        self._health.error = (error.code, error.fields)

    def _online(self, *, up: bool) -> Message:
        session = self._health.sessions + (not self._health.connected)
        return online(self._carriage.root, self._recorder.epoch, session, up=up)
