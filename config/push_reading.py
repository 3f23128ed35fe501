"""What the judge of pushes has read for it: trust documents, and what two configurations write differently.

What is always true here: only bytes that enough keys have signed come here, and what stands in the file now. Nothing is
executed by reading, and every size is bounded (`config.source`, `config.trust`).

This file is `config.push.Readers` for whoever may load what reads; the service asks a process of its own
(`agent.aside`).
"""

from pathlib import Path

from config.errors import ConfigFaults
from config.source import parse
from config.trust import differing
from config.trust_file import read as trust

__all__ = ["touched", "trust"]


def touched(before: bytes, after: bytes, critical: tuple[str, ...]) -> tuple[str, ...]:
    """Name the critical settings that two configurations write differently. Raises ConfigFaults of `after`."""
    tree = parse(after, Path("push")).value
    try:
        old: object = parse(before, Path("current")).value
    except ConfigFaults:  # whatever stood there, all of it is different now
        old = None
    return differing(old, tree, critical)
