"""A receiver: subscribes to a gateway's topics and proves what arrives, trusting nothing but public keys.

What is always true here:

- A block counts only after the verifier has judged it; repeats and any order of arrival are expected.
- A layout or a catalogue counts only when its hash is the name it came under.
- A block that arrives before its catalogue waits for it.
- The connection is made again for as long as the receiver runs.
"""

import asyncio
import hashlib
from collections.abc import Callable
from dataclasses import dataclass

from agent.broker import Endpoint, Message, connect
from agent.errors import BrokerDown, BrokerRefused
from buffer.block import Block, Header, decode_block, read_header
from buffer.columnar import Payload
from buffer.errors import BlockInvalid
from buffer.frame import Layout
from buffer.layout import decode_catalogue, decode_layout
from buffer.verify import Verifier, payload_of

RETRY_S = 0.5


@dataclass(frozen=True, slots=True)
class Opened:
    """A proven block, decoded."""

    header: Header
    layouts: tuple[Layout, ...]
    payload: Payload


class Receiver:
    """Receives one gateway's blocks under `root` (`trambien/v1/<gateway>`)."""

    def __init__(self, endpoint: Endpoint, root: str, verifier: Verifier, opened: Callable[[Opened], None]) -> None:
        self._endpoint = endpoint
        self._root = root
        self._opened = opened
        self._layouts: dict[bytes, Layout] = {}
        self._catalogues: dict[bytes, tuple[bytes, ...]] = {}
        self._waiting: list[Block] = []
        self.verifier = verifier
        self.connected = False
        self.messages = 0
        self.invalid = 0
