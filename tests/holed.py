"""What a verifier says of chains with holes, and what makes them."""

from chains import key

from buffer.block import Block
from buffer.frame import Event
from buffer.seal import Batch
from buffer.verify import Verifier

NAME = ("station-1", "main")


def prove(blocks, **options):
    """Feed blocks in this order; give the report."""
    verifier = Verifier([key().public_key], **options)
    for at, block in enumerate(blocks):
        verifier.feed(block.envelope, block.payload, at=at)
    return verifier.report()


def hollow(block):
    """Give a block without its payload."""
    return Block(block.envelope, None)


def told(station, kind, *accounts):
    """Seal events of account; give their blocks."""
    gathered = Batch()
    for number, data in enumerate(accounts):
        gathered.events.append(Event(kind, station.second, number.to_bytes(8, "big"), tuple(data.items())))
    return list(station.seal(gathered).blocks)


def shapes(findings):
    """Give where holes or gaps are, and why."""
    return [(one.first_seq, one.last_seq, getattr(one, "reason", None)) for one in findings]


def ledger(report):
    """Give the ledger as one comparable thing."""
    found = report.ledgers[NAME]
    return (found.sealed, found.held, dict(found.evicted), found.damaged, found.lost, found.pruned, found.missing)
