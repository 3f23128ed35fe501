"""SIGKILL at any instant: at most what was not sealed yet is lost, and never a committed block.

What is checked after every kill, by a process that was not killed:

- the file is proven from its first block to its last, and begins with all that it held after the kill before;
- whatever the platform has is in the file (durable before visible);
- of each instrument only the last answers are missing, none in between, and only those of one seal interval;
- no identity was ever used for two blocks, neither in the file nor at the platform.

At the end the platform has exactly what the file has. `TRAMBIEN_KILLS=200` asks for as many as the promise names.
"""

import asyncio
import os
import random
from pathlib import Path

import pytest
from outstation import STREAMS, Contents, Identity, Outstation
from rig import until
from steady import SteadyLoop

KILLS = int(os.environ.get("TRAMBIEN_KILLS", "20"))
BOUND_NS = 400_000_000
"""A seal interval and a poll."""
SLACK_NS = 3_000_000_000
"""How long a commit may be under way on a busy machine that goes on."""


class Witness:
    """Remembers what was there after the kills before."""

    def __init__(self, out: Outstation) -> None:
        self._out = out
        self._identities: dict[Identity, bytes] = {}
        self._before: dict[str, list[bytes]] = {}
        self._excused: dict[str, set[int]] = {name: set() for name in STREAMS}
        self.lives = 0

    def look(self, killed_ns: int | None) -> Contents:
        """Check everything; `killed_ns` is None where the agent left as asked."""
        contents = self._out.read()
        self._check_chain(contents)
        for name, missing in self._out.unaccounted(contents).items():
            fresh = [one for one in missing if one.serial not in self._excused[name]]
            stored = contents.numbers.get(name, set())
            for one in fresh:
                assert killed_ns is not None, f"{name} {one.serial} is lost"
                assert one.serial > max(stored, default=0), f"{name} {one.serial} is lost in the middle"
                stood_ns = int(SteadyLoop.running().stood_s(one.t_boot_ns, killed_ns) * 1e9)
                assert one.t_boot_ns >= killed_ns - BOUND_NS - SLACK_NS - stood_ns, f"{name} {one.serial} is lost"
            self._excused[name].update(one.serial for one in fresh)
        return contents

    def _check_chain(self, contents: Contents) -> None:
        report = contents.report
        assert report.verdict == "complete" or not contents.digests, report
        for stream, before in self._before.items():
            assert contents.digests.get(stream, [])[: len(before)] == before, "a committed block is lost"
        self.lives += contents.digests != self._before
        self._before = contents.digests
        identities = contents.identities()
        for identity, digest in (*identities.items(), *self._out.platform.verifier.seen.items()):
            assert self._identities.setdefault(identity, digest) == digest, f"two blocks are {identity}"
        for identity in self._out.platform.verifier.seen:
            assert identity in identities, f"the platform has {identity}, the file has not"


@pytest.mark.slow
@pytest.mark.timeout(300 + 10 * KILLS)
async def test_killed_at_any_instant_it_loses_at_most_what_was_not_sealed(tmp_path: Path) -> None:
    """Also while it starts, while it recovers, and while it commits."""
    (tmp_path / "buffer").mkdir()
    rng = random.Random(4)
    async with Outstation(tmp_path, tmp_path / "buffer" / "buffer.db") as out:
        witness = Witness(out)
        for number in range(KILLS):
            heard = len(out.platform.verifier.seen)
            await out.start()
            await asyncio.sleep(rng.uniform(0.3, 2.5))
            if number % 2:  # on a slow machine a start may take longer than that
                await until(lambda heard=heard: len(out.platform.verifier.seen) > heard)
            killed_ns = await out.kill()
            witness.look(killed_ns)
        await out.start()
        await asyncio.sleep(2)
        await out.drained()
        assert await out.leave() == 0
        contents = witness.look(None)
        await out.heard(contents)
        assert witness.lives > KILLS / 4, "too few lives came to a commit"
        assert contents.identities() == out.platform.verifier.seen
        assert not out.platform.verifier.twice
        assert out.platform.verifier.report().verdict == "complete"
        for name in STREAMS:
            assert out.platform.evidence.numbers[name] == contents.numbers[name]
