"""An uplink: one platform, the streams it is given, and the connection that comes and goes.

What is always true here:

- Only committed blocks are sent (B3): they come from the recorder, which learns of a commit after it returned.
- What was acknowledged belongs to the uplink's name and the stream, not to the connection: a lost session repeats what
  was in flight and nothing else.
- A platform gets no byte of a stream it is not given, nor a word about that stream's devices in its `state`.
- `online` goes before everything and is the will; its session number counts within the running store's epoch, so that
  a late will of an older session can be told from the present.
- Reconnecting backs off with full jitter; a session that dies within a minute counts as a failure.
"""

import asyncio
import json
import random
from collections.abc import Callable, Sequence

from agent.broker import FIRST_FAILURE, NO_MATCHING_SUBSCRIBERS, Endpoint, Message, Session, connect
from agent.carrier import Answers, Carriage, Carrier
from agent.companions import until_one_ends
from agent.errors import BrokerDown, BrokerRefused
from agent.health import Document, UplinkHealth
from agent.keeper import Kept
from agent.lanes import Lanes
from agent.log import Log
from agent.recorder import Recorder

FIRST_PAUSE_S = 1.0
LONGEST_PAUSE_S = 30.0
MOST_DOUBLINGS = 10
HEALTHY_SESSION_S = 60.0
STATE_EVERY_S = 60.0
STATE_SETTLES_S = 2.0

_log = Log("uplink")


class Uplink:
    """One platform. `run` until cancelled; `drained` tells when everything is acknowledged."""

    def __init__(
        self,
        carriage: Carriage,
        endpoint: Endpoint,
        recorder: Recorder,
        health: UplinkHealth,
        state: Callable[[], Document],
        rng: random.Random,
    ) -> None:
        self._carriage = carriage
        self._endpoint = endpoint
        self._recorder = recorder
        self._health = health
        self._state = state
        self._rng = rng
        self._carrier: Carrier | None = None
        self._lanes = Lanes(
            {stream: (recorder.settled(carriage.name, stream), recorder.head(stream)) for stream in carriage.streams}
        )
        health.pending = {stream: self._lanes.pending(stream) for stream in carriage.streams}
        recorder.listeners.append(self._committed)

    async def run(self) -> None:
        """Connect, serve, back off, again."""
        failures = 0
        loop = asyncio.get_running_loop()
        while True:
            began_s = loop.time()
            try:
                async with await connect(self._endpoint, self._online(online=False)) as session:
                    self._connected()
                    await self._serve(session)
            except (BrokerDown, BrokerRefused) as error:
                self._disconnected(error)
            failures = 0 if loop.time() - began_s >= HEALTHY_SESSION_S else failures + 1
            await asyncio.sleep(
                self._rng.uniform(0, min(LONGEST_PAUSE_S, FIRST_PAUSE_S * 2 ** min(failures, MOST_DOUBLINGS)))
            )

    async def drained(self) -> None:
        """Wait until every block is acknowledged, for as long as a session lasts."""
        while self._health.connected and any(self._health.pending.values()):  # noqa: ASYNC110 - once, when leaving
            await asyncio.sleep(0.02)

    async def _serve(self, session: Session) -> None:
        """Carry blocks until the connection ends; raises why."""
        carrier = Carrier(
            self._carriage,
            session,
            self._lanes,
            self._recorder,
            self._health,
            Answers(self._refused, lambda message: self._retained(session, message), self._too_large),
        )
        self._carrier = carrier
        tasks = [
            asyncio.create_task(carrier.run(), name=f"carry {self._carriage.name}"),
            asyncio.create_task(self._tell(session), name=f"state {self._carriage.name}"),
        ]
        try:
            await until_one_ends(session.ended, tasks)
        finally:
            self._carrier = None
            carrier.end()
            if not session.ended.done():
                await self._farewell(session)

    async def _tell(self, session: Session) -> None:
        """Publish `online`, then `state` whenever it changed and at least once a minute."""
        self._retained(session, self._online(online=True))
        loop = asyncio.get_running_loop()
        told: Document = {}
        told_s = -STATE_EVERY_S
        while True:
            state = self._state()
            if loop.time() - told_s >= STATE_EVERY_S or _essence(state) != told:
                self._retained(session, self._json("state", state))
                told, told_s = _essence(state), loop.time()
            await asyncio.sleep(STATE_SETTLES_S)

    async def _farewell(self, session: Session) -> None:
        """Say that the station leaves, as its will would have; wait a moment for the answer."""
        await asyncio.wait([session.publish(self._online(online=False))], timeout=0.5)

    def _retained(self, session: Session, message: Message) -> asyncio.Future[int]:
        """Publish what stays on its topic: whether somebody is subscribed does not matter, a refusal does."""
        answer = session.publish(message)
        answer.add_done_callback(lambda answer: self._judge(message.topic, answer))
        return answer

    def _judge(self, topic: str, answer: asyncio.Future[int]) -> None:
        if not answer.cancelled() and answer.exception() is None and answer.result() >= FIRST_FAILURE:
            self._refused(topic, answer.result())

    def _committed(self, kept: Sequence[Kept]) -> None:
        for block in kept:
            if block.stream in self._carriage.streams:
                self._lanes.committed(block.stream, block.position, fresh=self._carrier is not None)
                self._health.commit(block.stream)
        if self._carrier is not None:
            self._carrier.wake()

    def _refused(self, topic: str, code: int) -> None:
        """Report, once, that the broker refuses what it is sent. Mosquitto hangs up after it, so it is kept apart."""
        what = "agent.no-subscriber" if code == NO_MATCHING_SUBSCRIBERS else "agent.publish-refused"
        error = BrokerRefused(what, address=self._endpoint.address, topic=topic, reason=f"0x{code:02X}")
        if self._health.refusal is None:
            _log.error("publish-refused", uplink=self._carriage.name, error=error)
        self._health.refusal = (error.code, error.fields)

    def _too_large(self, topic: str, size: int, most: int) -> None:
        """Report that the broker cannot take a block."""
        fields = {"address": self._endpoint.address, "topic": topic, "size": size, "most": most}
        self._health.refusal = ("agent.too-large", fields)

    def _connected(self) -> None:
        self._health.connected = True
        self._health.sessions += 1
        self._health.error = None
        _log.info("uplink-connected", uplink=self._carriage.name, address=self._endpoint.address)

    def _disconnected(self, error: BrokerDown | BrokerRefused) -> None:
        """Log why when it begins, and keep it for `status`."""
        self._health.connected = False
        if self._health.error is None or self._health.error[0] != error.code:
            level = _log.error if isinstance(error, BrokerRefused) else _log.warning
            level("uplink-trouble", uplink=self._carriage.name, error=error)
        self._health.error = (error.code, error.fields)

    def _online(self, *, online: bool) -> Message:
        session = self._health.sessions + (not self._health.connected)
        return self._json("online", {"online": online, "epoch": self._recorder.epoch.hex(), "session": session})

    def _json(self, topic: str, document: Document) -> Message:
        payload = json.dumps(document, ensure_ascii=False, separators=(",", ":")).encode()
        return Message(f"{self._carriage.root}/{topic}", payload, retain=True)


def _essence(state: Document) -> Document:
    """Leave of a state what is worth telling at once: what is up, alive or in trouble."""
    links = {
        name: (link["up"], {device: facts["alive"] for device, facts in link["devices"].items()})
        for name, link in state["links"].items()
    }
    return {"links": links, "clock": state["clock"].get("quality"), "buffer": _troubles(state["buffer"])}


def _troubles(buffer: Document) -> Document:
    return {name: buffer[name] for name in ("error", "alarm")}
