"""The independent verifier in `node/`, written from FORMAT.md alone, says of every block and chain what ours says.

It shares no line, language or library with ours: where both agree the format is what the document says, and where they
do not, one of the three is wrong.
"""

import functools
import json
import random
import shutil
import subprocess
from hashlib import sha256
from pathlib import Path

import pytest
import zstandard
from chains import METER, SECOND, Station, batch, event, key, resigned, station_of
from contracts.make_chains import KEY, rotated
from contracts.make_vectors import EVERY_KIND, FOLDER, ROWS, decoded
from contracts.tampering import HARMLESS, UNSIGNED, duplicate, edit, edit_and_sign, flip_in_envelope, reorder, truncate

from buffer.block import (
    KIND_DATA,
    KIND_DEFINITIONS,
    Block,
    decode_block,
    encode_block,
    read_header,
)
from buffer.cbor import dumps
from buffer.errors import BlockInvalid
from buffer.frame import Change, Frame, fault_frame
from buffer.layout import decode_layout
from buffer.seal import Batch
from buffer.store import Reader, Store
from buffer.verify import Verifier, payload_of

PROGRAM = Path(__file__).parent / "node" / "verify.mjs"
DAMAGES = 240
SEED = 9052


@functools.cache
def node():
    """Give the program that runs the independent verifier, or skip."""
    found = shutil.which("node")
    if found is None:
        pytest.skip("needs node")
    version = subprocess.run([found, "--version"], capture_output=True, text=True, check=True).stdout
    if int(version.removeprefix("v").partition(".")[0]) < 20:
        pytest.skip(f"needs node 20, found {version.strip()}")
    return found


def theirs(*files, options=()):
    """Give what the independent verifier says of files, in one run."""
    command = [node(), PROGRAM, "--trust", KEY.public_key.hex(), *options, *files]
    ended = subprocess.run(command, capture_output=True, text=True, timeout=100, check=False)
    assert ended.stderr == ""
    return json.loads(ended.stdout)


def ours(encoded):
    """Give what our verifier says of encoded blocks, in the same shape."""
    verifier = Verifier([KEY.public_key])
    unread = []
    for data in encoded:
        try:
            block = decode_block(data)
        except BlockInvalid as error:
            unread.append([error.reason, 0])
        else:
            verifier.feed(block.envelope, block.payload)
    report = verifier.report()
    return {
        "verdict": "unexplained" if unread and report.blocks else report.verdict,
        "proven": report.blocks,
        "readings": report.readings,
        "evicted": report.evicted,
        "repeats": report.repeats,
        "faults": sorted(unread + [[fault.reason, fault.seq] for fault in report.faults]),
        "gaps": sorted([gap.first_seq, gap.last_seq, gap.readings] for gap in report.gaps),
        "holes": sorted([hole.first_seq, hole.last_seq, hole.reason] for hole in report.holes),
        "abandoned": sorted([branch.first.seq, branch.last.seq] for branch in report.abandoned),
    }


def shared(report):
    """Give the part of their report that ours has too."""
    lists = ("faults", "gaps", "holes", "abandoned")
    names = ("verdict", "proven", "readings", "evicted", "repeats")
    return {name: report[name] for name in names} | {name: sorted(report[name]) for name in lists}


@pytest.fixture(scope="module")
def said():
    """Give what they say of every vector: by file and name, with the vector."""
    files = [FOLDER / name for name in ("valid.json", "invalid.json", "chains.json")]
    cases = [(path.name, case) for path in files for case in json.loads(path.read_text("utf-8"))]
    return [(name, case, report) for (name, case), report in zip(cases, theirs(*files), strict=True)]


def test_every_valid_vector_is_decoded_to_the_same_values(said):
    """Headers, frames, changes, events and definitions; floats to the bit."""
    cases = [(case, report) for name, case, report in said if name == "valid.json"]
    assert len(cases) >= 7
    for case, report in cases:
        assert (report["header"], report["payload"]) == (case["header"], case["payload"]), case["name"]


def test_every_invalid_vector_is_refused_for_the_same_reason(said):
    """By the names of FORMAT.md."""
    cases = [(case["name"], case["reason"], report["reason"]) for name, case, report in said if name == "invalid.json"]
    assert len(cases) >= 17
    assert [(name, reason) for name, reason, _ in cases] == [(name, reason) for name, _, reason in cases]


def test_every_chain_vector_gets_the_same_report(said):
    """Verdict, counts, faults and gaps."""
    cases = [(case, report) for name, case, report in said if name == "chains.json"]
    assert len(cases) >= 38
    for case, report in cases:
        assert shared(report) == shared(case), case["name"]


def everything(second):
    """Give a batch of frames, changes, events, statuses and absent values of two layouts."""
    gathered = batch(second, frames=40)
    for at, row in enumerate(ROWS):
        gathered.add_frame(EVERY_KIND, Frame(second * SECOND + at, 17, row))
    gathered.add_frame(EVERY_KIND, fault_frame(EVERY_KIND, second * SECOND, 0x800A0000))
    gathered.add_changes(EVERY_KIND, [Change(p, None, second * SECOND + p, ROWS[0][p]) for p in (13, 0, 12, 11)])
    gathered.add_changes(METER, [Change(0, SECOND + at, second * SECOND, at, 0, at > 9) for at in range(20)])
    gathered.events.append(event(second, second))
    gathered.readings_dropped = 2
    return gathered


@pytest.fixture(scope="module")
def buffer(tmp_path_factory):
    """Give the blocks of a buffer file: two streams, several epochs, three catalogues, some payloads evicted."""
    path = tmp_path_factory.mktemp("buffer") / "buffer.db"
    for _ in range(3):
        with Store.open(path, [KEY.public_key]) as store:
            station = station_of(store)
            station.second = 1000 * len(store.heads())
            for stream in ("main", "second"):
                store.append([station.seal(stream=stream)])
                store.append([station.seal(Batch(), stream)])
                store.append([station.seal(everything(station.second), stream, (METER, EVERY_KIND))])
                store.append([station.seal(batch(1, frames=3000), stream, (EVERY_KIND, METER))])
    with Reader(path) as reader:
        blocks = [block for stream in ("main", "second") for _, block in reader.blocks(stream)]
    read = [block for block in blocks[8:] if read_header(block.envelope).kind == KIND_DATA]
    gone = [block.envelope for block in random.Random(SEED).sample(read, 4)]
    return [Block(block.envelope, None if block.envelope in gone else block.payload) for block in blocks]


def test_the_blocks_of_a_buffer_get_the_same_report_and_values(buffer, tmp_path):
    """Exported to files, in any order of their names."""
    order = random.Random(SEED).sample(range(len(buffer)), len(buffer))
    files = [tmp_path / f"{number}.block" for number in order]
    for file, block in zip(files, buffer, strict=True):
        file.write_bytes(encode_block(block))
    report = theirs(*files, options=["--values"])
    assert report["verdict"] == "complete"
    assert shared(report) == ours(map(encode_block, buffer))
    assert report["contents"] == []
    assert len({read_header(block.envelope).epoch for block in buffer}) == 3
    by_digest = {block.digest.hex(): block for block in buffer}
    compared = 0
    for entry in report["blocks"]:
        if "payload" not in entry:
            continue
        block = by_digest[entry["digest"]]
        assert entry["payload"] == decoded(block, layouts_of(block, buffer))["payload"]
        compared += 1
    assert compared == len(buffer) - report["evicted"] - report["undecoded"] >= 20


@functools.cache
def layouts_by_catalogue(blocks):
    """Give the layouts of every catalogue that was signed into the blocks."""
    found = {}
    for block in blocks:
        header = read_header(block.envelope)
        if header.kind == KIND_DEFINITIONS and block.payload is not None:
            definitions = payload_of(block, header, []).definitions
            found[header.catalogue] = [decode_layout(layout) for layout in definitions.layouts]
    return found


def layouts_of(block, blocks):
    """Give the layouts that a block needs."""
    return layouts_by_catalogue(tuple(blocks))[read_header(block.envelope).catalogue]


def damaged(buffer, seed, ways):
    """Give damages of a chain, with the names of what was done, one or two at once."""
    chance = random.Random(seed)
    encoded = [encode_block(block) for block in buffer]
    for number in range(DAMAGES):
        blocks = encoded[:]
        done = [ways[number % len(ways)], *chance.sample(ways, chance.randrange(2))]
        for way in done:
            places = [at for at, data in enumerate(blocks) if data in encoded]
            if places:
                way(blocks, chance.choice(places), chance)
        yield f"{number}: {', '.join(way.__name__ for way in done)}", blocks


def judge(damages, folder):
    """Give the name, our report and theirs of each damage, theirs from one run."""
    manifest = folder / "damages.json"
    entries = [{"name": name, "blocks": [block.hex() for block in blocks]} for name, blocks in damages]
    manifest.write_text(json.dumps(entries), "utf-8")
    reports = theirs(manifest)
    return [
        (name, unified(ours(blocks)), unified(shared(report)))
        for (name, blocks), report in zip(damages, reports, strict=True)
    ]


def unified(report):
    """Take two reasons for one: which it is of a protected header that is not CBOR, FORMAT.md leaves open."""
    alike = [["not-sign1" if reason == "wrong-type" else reason, seq] for reason, seq in report["faults"]]
    return report | {"faults": sorted(alike)}


def one_stream(buffer):
    """Give the blocks of the first stream."""
    return [block for block in buffer if read_header(block.envelope).stream == "main"]


def test_every_damage_that_is_not_signed_gets_the_same_report(buffer, tmp_path):
    """Verdict, counts, faults and gaps of each; what changes nothing stays complete, what does is told."""
    blocks = one_stream(buffer)
    judged = judge(list(damaged(blocks, SEED, UNSIGNED + HARMLESS)), tmp_path)
    assert [(name, mine) for name, mine, _ in judged] == [(name, other) for name, _, other in judged]
    assert {report["verdict"] for _, report, _ in judged} == {"complete", "unexplained"}


def test_every_damage_that_leaves_little_gets_the_same_verdict(buffer, tmp_path):
    """One, two or three blocks: where nothing is left that can be proven, the verdict is another."""
    damages = [
        (f"{length} of {name}", found)
        for length in (1, 2, 3)
        for name, found in damaged(one_stream(buffer)[:length], SEED + length, (flip_in_envelope, truncate, edit))
    ]
    judged = judge(damages[::3], tmp_path)
    assert len(judged) == DAMAGES
    assert [(name, mine) for name, mine, _ in judged] == [(name, other) for name, _, other in judged]
    assert {report["verdict"] for _, report, _ in judged} >= {"unexplained", "unreadable"}


def test_every_damage_signed_with_the_stolen_key_gets_the_same_verdict(buffer, tmp_path):
    """Faults may have other names, where one damage breaks several rules."""
    judged = judge(list(damaged(one_stream(buffer), SEED, (edit_and_sign,))), tmp_path)
    verdicts = [(name, mine["verdict"], other["verdict"]) for name, mine, other in judged]
    assert [(name, mine) for name, mine, _ in verdicts] == [(name, other) for name, _, other in verdicts]


def sign_with_the_retired_key(blocks, at, chance):
    """Sign a block with the key that a rotation has retired, or is about to."""
    blocks[at] = encode_block(resigned(decode_block(blocks[at]), KEY))


def sign_with_the_next_key(blocks, at, chance):
    """Sign a block with the key that follows, too early perhaps."""
    blocks[at] = encode_block(resigned(decode_block(blocks[at]), key(2)))


def test_every_damage_of_a_chain_over_a_rotation_gets_the_same_report(tmp_path):
    """Foreign, retired and too early keys, statements that are missing, late, repeated or damaged."""
    before, between, after, station = rotated()
    chain = before + between + after + station.blocks(6) + station.blocks(2, "second")
    ways = (*UNSIGNED, reorder, duplicate, sign_with_the_retired_key, sign_with_the_next_key)
    judged = judge(list(damaged(chain, SEED, ways)), tmp_path)
    assert [(name, mine) for name, mine, _ in judged] == [(name, other) for name, _, other in judged]
    found = {reason for _, mine, _ in judged for reason, _ in mine["faults"]}
    assert found >= {"foreign-key", "retired-key", "bad-signature", "broken-link"}


def test_whatever_a_compressor_makes_is_decompressed(tmp_path):
    """Noise, text, floats and repetition, at every kind of level, with and without the optional parts of a frame."""
    chance = random.Random(SEED)
    (block, *_) = Station().seal(Batch()).blocks
    entries, wanted = [], []
    for number in range(60):
        size = chance.choice((0, 1, 40, 3000, 70_000, 300_000))
        content = (
            chance.randbytes(size),
            bytes(int(chance.expovariate(0.1)) & 255 for _ in range(size)),
            json.dumps([chance.randrange(1000) for _ in range(size // 5)]).encode(),
            b"repetition " * (size // 11),
        )[number % 4]
        raw = dumps({0: b"", 4: [[content], b""]})
        compressor = zstandard.ZstdCompressor(
            level=chance.choice((-5, 1, 3, 9, 19)), write_content_size=number % 3 > 0, write_checksum=number % 5 > 2
        )
        stored = compressor.compress(raw)
        digest, catalogue = sha256(stored).digest(), sha256(dumps([])).digest()
        sealed = resigned(
            block,
            KEY,
            payload_digest=digest,
            payload_length=len(stored),
            raw_length=len(raw),
            codec=1,
            interval=None,
            catalogue=catalogue,
        )
        entries.append({"block": encode_block(Block(sealed.envelope, stored)).hex(), "layouts": []})
        wanted.append(content.hex())
    manifest = tmp_path / "compressed.json"
    manifest.write_text(json.dumps(entries), "utf-8")
    reports = theirs(manifest)
    assert [report.get("detail") for report in reports] == [None] * len(entries)
    assert [report["payload"]["definitions"]["layouts"][0]["bytes"] for report in reports] == wanted
