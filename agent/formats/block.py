"""Format `block`: the bytes that were signed are the bytes that are sent (buffer/FORMAT.md)."""

from agent.broker import Message
from agent.keeper import Kept
from buffer.block import encode_block


def messages(root: str, kept: Kept) -> tuple[Message, ...]:
    """Make the one publish of a block."""
    return (Message(f"{root}/block/{kept.stream}", encode_block(kept.block)),)
