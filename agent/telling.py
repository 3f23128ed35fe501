"""What is said of changes to what is stored: events, ledgers, breaks, and a word in the log for what is damaged.

What is always true here:

- Nothing goes without a word: for every change of blocks there is an event, in the stream it befell.
- Where a block goes that may have held the word of older holes, these are told again.

The keeper enters, in the owner's thread.
"""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from itertools import chain

from agent.health import StreamHealth
from agent.log import Log
from agent.opener import Opened
from buffer import again
from buffer.changes import NO_ROW, Account, Aged, Change, Damage, Owed, Pruning, Thinned
from buffer.frame import Event
from buffer.seal import Batch, Sealer
from buffer.store import Store

_log = Log("keeper")


def knowing(sealer: Sealer, known: str | None, broken: Opened | None) -> Sealer:
    """Give the sealer that says in a `start` how the block before it is known; None: as the sealer says already."""
    opening = sealer.opening
    if known is None or opening is None:
        return sealer
    opening = opening._replace(predecessor=known)
    if known == "lost" and broken is not None:
        opening = opening._replace(aside=broken.aside or "", highest=broken.highest)
    return replace(sealer, opening=opening)


def with_events(
    batches: Mapping[str, Batch], changes: Iterable[Change], boot_ns: int, new_event_id: Callable[[], bytes]
) -> dict[str, Batch]:
    """Add the events that tell of changes. The given batches stay as they are."""
    told = dict(batches)
    for change in changes:
        if isinstance(change, Thinned | Aged | Owed):
            continue
        stream, (kind, data) = change.account.stream, change.told()
        batch = told.get(stream) or Batch()
        told[stream] = replace(batch, events=[*batch.events, Event(kind, boot_ns, new_event_id(), data)])
    return told


def told_again(store: Store, changes: Iterable[Change]) -> tuple[Change, ...]:
    """Give what must be said again because blocks go that may have said it, or have."""
    hurt: dict[str, int] = {}
    for one in changes:
        if isinstance(one, Damage) and not one.envelope_good:
            hurt[one.account.stream] = max(one.account.last, hurt.get(one.account.stream, 0))
    damaged = (again.hurt(store, stream, position) for stream, position in sorted(hurt.items()))
    pruned = (one.again for one in changes if isinstance(one, Pruning))
    return tuple(chain.from_iterable((*damaged, *pruned)))


def hole(stream: str, first: int, last: int) -> Damage:
    """Give the damage of positions where nothing stands."""
    return Damage(Account(stream, first, last, last - first + 1, None), NO_ROW)


def holes_of(changes: Iterable[Change]) -> tuple[Change, ...]:
    """Give those changes that touch no row: they hold whatever else is done."""
    return tuple(one for one in changes if isinstance(one, Damage) and one.reason == NO_ROW)


def is_planned(damage: Damage, planned: Iterable[Change]) -> bool:
    """Say whether what was found is planned for already."""
    return any(
        one.account.stream == damage.account.stream and one.account.first <= damage.account.first <= one.account.last
        for one in planned
        if isinstance(one, Damage)
    )


def complain(changes: Iterable[Change]) -> None:
    """Log what is damaged."""
    for change in changes:
        if isinstance(change, Damage):
            _, data = change.told()
            _log.error("blocks-damaged", stream=change.account.stream, **dict(data))


def ledger_of(store: Store, stream: str) -> StreamHealth:
    """Give a stream's ledger, and the totals of its last block."""
    counts, head = store.counts(stream), store.heads().get(stream)
    ledger = StreamHealth(
        counts.sealed,
        held=counts.held,
        evicted=counts.evicted,
        damaged=counts.damaged,
        lost=counts.lost,
        pruned=counts.pruned,
        reasons=dict(counts.reasons),
    )
    if head is None:
        return ledger
    readings, missed, dropped = head.totals
    return replace(
        ledger, seq=head.seq, digest=head.digest.hex(), readings=readings, ticks_missed=missed, dropped=dropped
    )
