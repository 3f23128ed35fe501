"""A receiver: subscribes to a gateway's topics and proves what arrives, trusting nothing but public keys.

What is always true here:

- A block counts only after the verifier has judged it; repeats and any order of arrival are expected, and a repeat is
  opened once.
- A layout or a catalogue counts only when its hash is the name it came under.
- A block that arrives before its catalogue waits for it.
- The connection is made again for as long as the receiver runs.
"""

import asyncio
import hashlib
from collections import defaultdict
from collections.abc import Callable
from dataclasses import dataclass

from agent.broker import Endpoint, Message, connect
from agent.errors import BrokerDown
from buffer.block import Block, Header, decode_block
from buffer.columnar import Payload
from buffer.errors import BlockInvalid
from buffer.frame import Layout
from buffer.intervals import Intervals
from buffer.layout import decode_catalogue, decode_layout
from buffer.verify import Verifier, payload_of

RETRY_S = 0.1
TOPICS = ("layout/+", "catalogue/+", "block/+")


@dataclass(frozen=True, slots=True)
class Opened:
    """A proven block, decoded. `layouts` are those of its catalogue."""

    header: Header
    layouts: tuple[Layout, ...]
    payload: Payload


class Receiver:
    """Receives one gateway's blocks under `root` (`trambien/v1/<gateway>`)."""

    def __init__(
        self, endpoint: Endpoint, root: str, verifier: Verifier, opened: Callable[[Opened], None] | None = None
    ) -> None:
        self._endpoint = endpoint
        self._root = root
        self._open = opened
        self._layouts: dict[bytes, Layout] = {}
        self._catalogues: dict[bytes, tuple[bytes, ...]] = {}
        self._waiting: list[tuple[Header, Block]] = []
        self._seen: defaultdict[str, Intervals] = defaultdict(Intervals)
        self.verifier = verifier
        self.trouble: BrokerDown | None = None
        """Why there is no connection; None while there is one."""
        self.invalid = 0
        """Messages that are no blocks at all, or definitions whose hash is not their name."""

    async def run(self) -> None:
        """Receive until cancelled; where the broker is gone, wait for it."""
        while True:
            try:
                await self.receive()
            except BrokerDown as error:
                self.trouble = error
                await asyncio.sleep(RETRY_S)

    async def receive(self) -> None:
        """Receive over one connection until it ends. Raises BrokerDown or BrokerRefused."""
        async with await connect(self._endpoint) as session:
            session.on_message = self._take
            await session.subscribe(*(f"{self._root}/{topic}" for topic in TOPICS))
            self.trouble = None
            await session.ended

    def _take(self, message: Message) -> None:
        kind, _, name = message.topic.removeprefix(f"{self._root}/").partition("/")
        try:
            if kind == "block":
                self._take_block(decode_block(message.payload), message.topic)
            elif hashlib.sha256(message.payload).hexdigest() != name:
                self.invalid += 1
            elif kind == "layout":
                self._layouts[bytes.fromhex(name)] = decode_layout(message.payload)
            else:
                self._catalogues[bytes.fromhex(name)] = decode_catalogue(message.payload)
        except BlockInvalid:
            self.invalid += 1
        if self._waiting and kind != "block":
            self._retry()

    def _take_block(self, block: Block, at: str) -> None:
        header = self.verifier.feed(block.envelope, block.payload, at)
        if header is None or self._open is None or header.seq in self._seen[header.stream]:
            return
        self._seen[header.stream].add(header.seq)
        if not self._opened(header, block):
            self._waiting.append((header, block))

    def _opened(self, header: Header, block: Block) -> bool:
        """Decode a block and pass it on; say whether its layouts were there."""
        ids = self._catalogues.get(header.catalogue)
        if ids is None or not all(identity in self._layouts for identity in ids):
            return False
        layouts = tuple(self._layouts[identity] for identity in ids)
        assert self._open is not None
        try:
            if block.payload is not None:
                self._open(Opened(header, layouts, payload_of(block, header, layouts)))
        except BlockInvalid:  # the verifier has named a wrong payload; one that is signed nonsense is counted here
            self.invalid += 1
        return True

    def _retry(self) -> None:
        self._waiting = [(header, block) for header, block in self._waiting if not self._opened(header, block)]
