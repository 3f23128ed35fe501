"""What the positions of blocks mean: catalogues and layouts as they were signed.

What is always true here: each has the hash it is named by; what the store lacks, or has wrongly, is taken from the
present settings, and what these do not have either is not guessed.

The keeper enters, in the owner's thread.
"""

from collections.abc import Callable
from contextlib import suppress
from hashlib import sha256

from agent.kept import Definition, Site
from buffer.errors import BlockInvalid, BufferFault, BufferUnreadable
from buffer.frame import Layout
from buffer.layout import decode_catalogue, decode_layout, encode_catalogue, encode_layout, layout_id
from buffer.store import Store


class Definitions:
    """Looks definitions up. `site` gives the present settings, `opened` the store, or raises what the store raises."""

    def __init__(self, site: Callable[[], Site], opened: Callable[[], Store]) -> None:
        self._site = site
        self._opened = opened

    def get(self, digest: bytes) -> Definition:
        """Give a catalogue, and its layouts by id. Raises BufferUnreadable where one is damaged."""
        catalogue = self._true(digest, lambda store: store.catalogue(digest))
        layouts = {identity: self._layout(identity) for identity in decode_catalogue(catalogue)}
        return Definition(catalogue, layouts)

    def of_stream(self, stream: str, catalogue: bytes) -> tuple[Layout, ...]:
        """Give what a stream's positions mean: of one that is not configured any more, as its last block names it."""
        if stream in self._site().catalogues:
            return self._site().catalogues[stream]
        try:
            known = self.get(catalogue)
            return tuple(decode_layout(known.layouts[one]) for one in decode_catalogue(known.catalogue))
        except (BufferUnreadable, BlockInvalid):
            return ()

    def _layout(self, identity: bytes) -> bytes:
        return self._true(identity, lambda store: store.layout(identity))

    def _true(self, digest: bytes, find: Callable[[Store], bytes | None]) -> bytes:
        with suppress(BufferFault):  # a store that cannot be read now has nothing
            stored = find(self._opened())
            if stored is not None and sha256(stored).digest() == digest:
                return stored
        for layouts in self._site().catalogues.values():
            for encoded in (*map(encode_layout, layouts), encode_catalogue(tuple(map(layout_id, layouts)))):
                if sha256(encoded).digest() == digest:
                    return encoded
        raise BufferUnreadable(path=str(self._site().path), reason=f"definition {digest.hex()[:16]} is damaged")
