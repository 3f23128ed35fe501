"""Reading a trust document from its bytes.

What is always true here: whatever the bytes are, the outcome is a document that is sound (`config.trust`), or
`TrustInvalid`. There is one reading: a key written twice, a number that is no integer, a text that is too long or
nested too deep is refused.

`config.push` enters, and the agent.
"""

import json
from hashlib import sha256
from typing import Any

from config.judge import Unsound, judged
from config.trust import SIZE_LIMIT, Standing, Trust, TrustInvalid


def parse(data: bytes) -> Trust:
    """Read a trust document. Raises TrustInvalid."""
    if len(data) > SIZE_LIMIT:
        raise TrustInvalid("too large")
    try:
        return judged(Trust, json.loads(data, object_pairs_hook=_once, parse_constant=_no_constant))
    except Unsound as unsound:
        first = unsound.findings[0]
        raise TrustInvalid(f"{'.'.join(map(str, first.steps))}: {first.text}") from unsound
    except (ValueError, RecursionError) as error:
        raise TrustInvalid(str(error)) from error


def read(data: bytes) -> Standing:
    """Read the document that stands in a file. Raises TrustInvalid."""
    return Standing(parse(data), sha256(data).digest())


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    members = dict(pairs)
    if len(members) != len(pairs):
        raise ValueError("a key stands twice")
    return members


def _no_constant(name: str) -> object:
    raise ValueError(f"{name} is no JSON")
