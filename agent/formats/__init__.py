"""What an uplink makes of a block: one file a payload format.

A format is a function from a committed block to the publishes made from it; the block is acknowledged when every one
of them has succeeded (B4). To add one: write its file, enter it in `FORMATS`, and give it golden vectors.
"""

from collections.abc import Callable

from agent.broker import Message
from agent.formats import block
from agent.keeper import Kept

Format = Callable[[str, Kept], tuple[Message, ...]]
"""Takes the gateway's topic root and a block."""

FORMATS: dict[str, Format] = {"block": block.messages}
