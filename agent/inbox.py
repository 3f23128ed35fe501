"""What a platform may say to us over an uplink: confirmations, and requests to send again.

What is always true here:

- Only topics that the settings ask for are subscribed to; what comes on another is dropped.
- A message is judged whole before anything changes. One that does not fit is reported and ignored; so is a retained
  one, which is nobody's word of now.
- Only streams that the uplink carries can be asked for.
- At most `MOST_WAITING` messages wait; what comes above that is dropped and reported.
- Nothing here is signed: who may write these topics is what the broker's TLS and its access rules say. What the worst
  of them can do is to have us send again, or to let a block count as delivered whose digest they know.
"""

import asyncio
from collections.abc import Callable
from typing import NoReturn

from agent.broker import Message, Session
from agent.carrier import Carrier
from agent.confirm import MOST_BYTES, Unfit, read_ack
from agent.errors import BrokerRefused
from agent.log import Log
from agent.resend import Resends, read_request

MOST_WAITING = 64
ACK, RESEND = "ack", "resend"

_log = Log("inbox")


class Inbox:
    """The messages of one uplink over one session."""

    def __init__(
        self,
        root: str,
        streams: tuple[str, ...],
        topics: tuple[str, ...],
        carrier: Carrier,
        resends: Resends,
        unfit: Callable[[str, str], None],
    ) -> None:
        self._root = root
        self._streams = streams
        self._topics = topics
        self._carrier = carrier
        self._resends = resends
        self._unfit = unfit
        self._waiting: asyncio.Queue[Message] = asyncio.Queue(MOST_WAITING)

    async def run(self, session: Session) -> NoReturn:
        """Subscribe and obey until cancelled. A subscription that is refused is reported; blocks go on."""
        session.on_message = self._take
        for topic in self._topics:
            try:
                await session.subscribe(f"{self._root}/{topic}")
            except BrokerRefused as error:
                _log.error("subscription-refused", error=error)
                self._unfit(topic, "subscription-refused")
        while True:
            message = await self._waiting.get()
            topic = message.topic.removeprefix(f"{self._root}/")
            try:
                await self._obey(topic, message)
            except Unfit as unfit:
                self._unfit(topic, unfit.reason)

    def _take(self, message: Message) -> None:
        topic = message.topic.removeprefix(f"{self._root}/")
        if topic not in self._topics:
            return
        if message.retain or len(message.payload) > MOST_BYTES:
            self._unfit(topic, "retained" if message.retain else "too-long")
        elif self._waiting.full():
            self._unfit(topic, "too-many")
        else:
            self._waiting.put_nowait(message)

    async def _obey(self, topic: str, message: Message) -> None:
        if topic == ACK:
            await self._carrier.confirm(read_ack(message.payload))
        else:
            request = read_request(message.payload)
            if request.stream not in self._streams:
                raise Unfit("unknown-stream")
            self._resends.ask(request)
