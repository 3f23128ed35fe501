"""Format `block`: the bytes that were signed are the bytes that are sent (buffer/FORMAT.md).

It is the one format that is not made from an opened block: it needs neither time nor layouts. Those are published,
retained, before the first block that names them.
"""

from agent.broker import Message
from agent.kept import Kept
from buffer.block import encode_block


def message(root: str, kept: Kept) -> Message:
    """Make the one publish of a block."""
    return Message(f"{root}/block/{kept.stream}", encode_block(kept.block))
