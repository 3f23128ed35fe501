"""B7: changing links, points, streams or uplinks never loses a stored block."""

from dataclasses import replace

from chains import METER, batch, key, moment

from agent.housekeeping import Rules
from agent.keeper import Identity, Keeper, Site
from buffer.intervals import Intervals
from buffer.quota import Quota
from buffer.store import Reader
from buffer.verify import Verifier

OTHER = replace(METER, device="other")


def keeper(path, catalogues, uplinks, second, limit=50_000_000):
    """Open a keeper with this configuration."""
    identity = Identity("station-1", key(), "0.1.0", bytes(32), bytes(32))
    rules = Rules(Quota(limit, 10**18, 0), dict.fromkeys(uplinks))
    site = Site(path, identity, (key().public_key,), catalogues, 56_000, rules=rules)
    numbers = iter(range(1, 1 << 40))
    opened = Keeper(site, lambda: moment(second), lambda: next(numbers).to_bytes(8, "big"))
    return opened, opened.open(uplinks)


def verdict(path):
    """Prove the whole file."""
    verifier = Verifier([key().public_key])
    with Reader(path) as reader:
        for stream in reader.streams():
            for _, block in reader.blocks(stream):
                verifier.feed(block.envelope, block.payload)
    return verifier.report().verdict


def test_a_stream_that_is_configured_no_more_is_held_and_read(tmp_path):
    """Its blocks wait for whoever carries them; its ledger is shown."""
    path = tmp_path / "buffer.db"
    first, _ = keeper(path, {"main": (METER,), "side": (METER,)}, ["province"], 10)
    first.seal({"main": batch(10), "side": batch(10)}, {})
    first.close()
    second, settled = keeper(path, {"main": (OTHER,)}, ["province"], 100)
    second.seal({"main": batch(100, layout=OTHER)}, {})
    assert ("province", "side") in settled
    assert len(second.read("side", 1, 10, 1 << 20).blocks) == second.ledgers["side"].held == 2
    second.close()
    assert verdict(path) == "complete"


def test_what_goes_of_a_stream_that_is_configured_no_more_is_told_in_it(tmp_path):
    """A hole is signed in the stream it is in, whoever still writes there."""
    path = tmp_path / "buffer.db"
    first, _ = keeper(path, {"main": (METER,), "side": (METER,)}, ["province"], 10)
    for second in range(10, 400, 10):
        first.seal({"main": batch(second), "side": batch(second)}, {})
    first.close()
    later, _ = keeper(path, {"main": (METER,)}, ["province"], 1000)
    later._planned = later._house.urgent({("province", "side"): Intervals([(1, 20)])})
    later.seal({}, {})
    assert dict(later.ledgers["side"].reasons)["delivered"] > 0
    later.close()
    assert verdict(path) == "complete"


def test_an_uplink_that_is_added_later_is_owed_everything_that_is_held(tmp_path):
    """Delivered means delivered to all that are configured now."""
    path = tmp_path / "buffer.db"
    first, settled = keeper(path, {"main": (METER,)}, ["province"], 10)
    first.seal({"main": batch(10)}, {})
    settled["province", "main"].add_range(1, 3)
    first.seal({"main": batch(20)}, settled)
    first.close()
    second, settled = keeper(path, {"main": (METER,)}, ["province", "factory"], 100)
    assert settled["factory", "main"] == Intervals()
    assert settled["province", "main"] == Intervals([(1, 3)])
    assert second._house._delivered("main", settled) == Intervals()
    second.close()
