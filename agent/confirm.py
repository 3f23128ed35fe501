"""Confirmations: which blocks the broker took and the platform has not acknowledged, and the judge of its messages.

What is always true here:

- Only blocks that the broker took are confirmed, and only by a message that names the epoch and the right digest of the
  last block it covers. Anything else is `Unfit`: it is reported and changes nothing.
- A block not confirmed in time is sent again; then one unconfirmed block may be under way, and with every confirmation
  twice as many. The time doubles up to an hour. A confirmation that comes late counts.
- The table is bounded by `MOST_UNCONFIRMED`.

Pure: times in seconds are passed in. `docs/platform.md` gives the messages.
"""

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

from buffer.block import Header

MOST_BYTES = 16_384
MOST_RANGES = 1_000
MOST_UNCONFIRMED = 1_024
LONGEST_S = 3_600.0
EPOCH_BYTES = 8
DIGEST_BYTES = 32
MOST_SEQ = (1 << 40) - 1


class Unfit(Exception):
    """A message that is not obeyed. `reason` is one of a fixed set of words."""

    def __init__(self, reason: str) -> None:
        self.reason = reason
        super().__init__(reason)


class Ack(NamedTuple):
    """The platform has the blocks of an epoch up to `up_to`, but for those `missing`, as closed ranges."""

    stream: str
    epoch: bytes
    up_to: int
    digest: bytes
    missing: tuple[tuple[int, int], ...]


def read_object(payload: bytes) -> Mapping[str, Any]:
    """Read a JSON object of bounded size. Raises Unfit."""
    if len(payload) > MOST_BYTES:
        raise Unfit("too-long")
    try:
        document = json.loads(payload)
    except (ValueError, RecursionError):
        raise Unfit("not-json") from None
    if not isinstance(document, dict):
        raise Unfit("not-an-object")
    return document


def read_ack(payload: bytes) -> Ack:
    """Read a platform's `ack`. Raises Unfit."""
    document = read_object(payload)
    up_to = sequence(document.get("up_to"))
    missing = document.get("missing")
    if not isinstance(missing, list) or len(missing) > MOST_RANGES:
        raise Unfit("bad-missing")
    return Ack(
        text(document.get("stream")),
        hexadecimal(document.get("epoch"), EPOCH_BYTES),
        up_to,
        hexadecimal(document.get("digest"), DIGEST_BYTES),
        tuple(_range(one, up_to) for one in missing),
    )


def _range(value: object, up_to: int) -> tuple[int, int]:
    if not isinstance(value, list) or len(value) != 2:
        raise Unfit("bad-missing")
    first, last = map(sequence, value)
    if not first <= last < up_to:
        raise Unfit("bad-missing")
    return first, last


def text(value: object) -> str:
    """Judge a name. Raises Unfit."""
    if not isinstance(value, str):
        raise Unfit("bad-name")
    return value


def hexadecimal(value: object, length: int) -> bytes:
    """Judge bytes written in hexadecimal. Raises Unfit."""
    if not isinstance(value, str) or len(value) != 2 * length:
        raise Unfit("bad-hex")
    try:
        return bytes.fromhex(value)
    except ValueError:
        raise Unfit("bad-hex") from None


def sequence(value: object) -> int:
    """Judge a sequence number. Raises Unfit."""
    if type(value) is not int or not 0 < value <= MOST_SEQ:
        raise Unfit("bad-number")
    return value


@dataclass(frozen=True, slots=True)
class Landed:
    """A block that the broker took. `overdue` says that it is pending again meanwhile."""

    epoch: bytes
    seq: int
    digest: bytes
    until_s: float
    overdue: bool = False


class Verdict(NamedTuple):
    """What a confirmation says of positions: these are done, these are to be sent again."""

    confirmed: tuple[int, ...]
    missing: tuple[int, ...]


class Unconfirmed:
    """The blocks of one uplink that wait for the platform's word. They outlive the connection."""

    def __init__(self, within_s: float) -> None:
        self._first_within_s = self._within_s = within_s
        self._landed: dict[tuple[str, int], Landed] = {}
        self._most = MOST_UNCONFIRMED
        self._doubled_until_s = float("-inf")

    def room(self, in_flight: int) -> bool:
        """Say whether another block may be sent beside so many that are on their way."""
        return in_flight + sum(not landed.overdue for landed in self._landed.values()) < self._most

    def land(self, stream: str, position: int, header: Header, digest: bytes, now_s: float) -> None:
        """Note a block that the broker took."""
        landed = Landed(header.epoch, header.seq, digest, now_s + self._within_s)
        self._landed.pop((stream, position), None)
        self._landed[stream, position] = landed
        if len(self._landed) > MOST_UNCONFIRMED:  # the oldest that is pending again anyway
            del self._landed[next(key for key, one in self._landed.items() if one.overdue)]

    def overdue(self, now_s: float) -> list[tuple[str, int]]:
        """Give what is to be sent again because no word came in time."""
        late = [key for key, landed in self._landed.items() if not landed.overdue and landed.until_s <= now_s]
        for key in late:
            self._landed[key] = replace(self._landed[key], overdue=True)
        if late:
            self._most = 1
            if now_s >= self._doubled_until_s:  # once for all that went out together
                self._within_s = min(LONGEST_S, 2 * self._within_s)
                self._doubled_until_s = now_s + self._within_s
        return late

    def wait_s(self, now_s: float) -> float | None:
        """Say when the next one is overdue, None where none waits."""
        ends = [landed.until_s for landed in self._landed.values() if not landed.overdue]
        return max(0.0, min(ends) - now_s) if ends else None

    def digest(self, ack: Ack) -> bytes | None:
        """Give the digest of the last block that a confirmation covers, None where it does not wait here."""
        for _, landed in self._of(ack):
            if landed.seq == ack.up_to:
                return landed.digest
        return None

    def take(self, ack: Ack) -> Verdict:
        """Take a confirmation whose digest was found right."""
        confirmed: list[int] = []
        missing: list[int] = []
        for position, landed in tuple(self._of(ack)):
            if landed.seq <= ack.up_to:
                lacks = any(first <= landed.seq <= last for first, last in ack.missing)
                (missing if lacks else confirmed).append(position)
                del self._landed[ack.stream, position]
        if confirmed:
            self._within_s = self._first_within_s
            self._doubled_until_s = float("-inf")
            self._most = min(MOST_UNCONFIRMED, 2 * self._most)
        return Verdict(tuple(confirmed), tuple(missing))

    def _of(self, ack: Ack) -> Iterator[tuple[int, Landed]]:
        for (stream, position), landed in self._landed.items():
            if stream == ack.stream and landed.epoch == ack.epoch:
                yield position, landed
