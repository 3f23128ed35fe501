"""The steps of a key rotation around its commit.

What is always true here:

- The new key is in force exactly where the commit of its statement is in the store: the heads say so.
- Where the files beside the key cannot be written the new key is in force all the same; the next start ends the rest.

The keeper enters, in the owner's thread.
"""

from agent.log import Log
from buffer.accounts import events_of
from buffer.custody import Custody
from buffer.errors import BufferUnreadable
from buffer.frame import Event
from buffer.seal import Batch
from buffer.store import Store

_log = Log("keeper")


def begin(custody: Custody, gateway: str, boot_ns: int, event_id: bytes) -> Batch:
    """Make the next key, and give the event that brings it. Raises what `Custody.begin` raises."""
    statement = custody.begin(gateway)
    data = (("key", custody.pending), ("statement", statement))
    return Batch(events=[Event("key-rotated", boot_ns, event_id, data)])


def switch(custody: Custody, gateway: str) -> None:
    """Put the next key in force: its statement is committed."""
    try:
        custody.switch(gateway)
    except BufferUnreadable as error:
        _log.error("key-switch-unfinished", reason=error)
    _log.info("key-rotated", key=custody.signer.kid)


def settle(custody: Custody | None, gateway: str, store: Store) -> bool:
    """End a rotation that was cut short, by what the heads say; say whether another key is in force now."""
    if custody is None or custody.pending is None:
        return False
    if any(_brings(store, stream, custody.pending) for stream in store.heads()):
        switch(custody, gateway)
        return True
    custody.undo()
    return False


def _brings(store: Store, stream: str, kid: bytes) -> bool:
    """Say whether a stream's last block is signed by a key, or is the one that says it follows."""
    last = store.last_position(stream)
    for _, block, header in store.read(stream, last, last).blocks:
        events = events_of(block, header)
        return header.kid == kid or any(one.type == "key-rotated" and ("key", kid) in one.data for one in events)
    return False
