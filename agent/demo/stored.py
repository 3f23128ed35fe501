"""What the buffer holds at the end, read from its file alone: which numbers, and what its verification finds."""

import contextlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from agent.demo.evidence import Evidence
from agent.receiver import Opened
from buffer.layout import decode_catalogue, decode_layout
from buffer.store import Reader
from buffer.verify import Report, Verifier, payload_of


@dataclass(frozen=True, slots=True)
class Stored:
    """Numbers by device, and the proof of the file."""

    numbers: Mapping[str, set[int]]
    report: Report


def read_buffer(path: Path, public_key: bytes) -> Stored:
    """Read and prove a buffer file."""
    verifier = Verifier([public_key])
    evidence = Evidence()
    with contextlib.closing(Reader(path)) as reader:
        for stream in reader.streams():
            for position, block in reader.blocks(stream):
                header = verifier.feed(block.envelope, block.payload, position)
                catalogue = None if header is None else reader.catalogue(header.catalogue)
                if header is None or catalogue is None:
                    continue
                encoded = [reader.layout(identity) for identity in decode_catalogue(catalogue)]
                layouts = tuple(decode_layout(layout) for layout in encoded if layout is not None)
                evidence.add(Opened(header, layouts, payload_of(block, header, layouts)))
    return Stored(evidence.numbers, verifier.report())
