"""FORMAT.md and the test vectors say what the code does, and the code does what they say."""

import json
import re
from hashlib import sha256
from pathlib import Path

import pytest
import zstandard
from contracts.make_vectors import FOLDER, decoded, example, vectors
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

from buffer.block import Block, decode_block, open_envelope, payload_bytes, trust
from buffer.columnar import decode_payload
from buffer.errors import BlockInvalid
from buffer.layout import decode_layout
from buffer.verify import Verifier, payload_of

FORMAT = Path(__file__).parents[2] / "buffer" / "FORMAT.md"
KEY = json.loads((FOLDER / "key.json").read_text("utf-8"))
KEYS = trust([bytes.fromhex(KEY["public_key"])])


def cases(name):
    """Give the vectors of a file, each under its name."""
    found = json.loads((FOLDER / name).read_text("utf-8"))
    return [pytest.param(case, id=case["name"]) for case in found]


def written():
    """Give the bytes of every example in FORMAT.md by its title."""
    blocks = re.findall(r"```hex ([a-z ]+)\n([0-9a-f\n]+)```", FORMAT.read_text("utf-8"))
    return {title: bytes.fromhex(text.replace("\n", "")) for title, text in blocks}


def test_the_worked_example_is_what_the_code_makes():
    """Part by part, byte by byte."""
    assert written() == example()


def test_the_worked_example_holds_together_without_our_code():
    """Keys, hashes, signature and compression, by other libraries alone."""
    parts = written()
    private = Ed25519PrivateKey.from_private_bytes(parts["private key seed"])
    signature = parts["envelope"][-64:]
    Ed25519PublicKey.from_public_bytes(parts["public key"]).verify(signature, parts["to be signed"])
    assert private.sign(parts["to be signed"]) == signature
    assert parts["kid"] == sha256(bytes.fromhex("a301012006215820") + parts["public key"]).digest()
    assert (
        parts["envelope"]
        == b"\xd2\x84\x58\x36" + parts["protected header"] + b"\xa0\x58\xf0" + parts["header"] + b"\x58\x40" + signature
    )
    assert sha256(parts["layout"]).digest() == parts["layout id"]
    assert sha256(parts["catalogue"]).digest() == parts["catalogue digest"]
    assert parts["header"].endswith(parts["catalogue digest"])
    assert sha256(parts["predecessor envelope"]).digest() in parts["header"]
    assert sha256(parts["payload as stored"]).digest() in parts["header"]
    assert zstandard.ZstdDecompressor().decompress(parts["payload as stored"], max_output_size=1000) == parts["payload"]
    assert sha256(parts["envelope"]).digest() == parts["digest"]


def test_the_worked_example_reads_as_it_says():
    """From the document's own hex to the frames."""
    parts = written()
    block = decode_block(parts["block on the wire"])
    header = open_envelope(block.envelope, trust([parts["public key"]]))
    layout = decode_layout(parts["layout"])
    (group,) = decode_payload(payload_bytes(block, header), [layout]).frames
    times = [(frame.t_boot_ns, frame.span_ns) for frame in group[1]]
    assert times == [(20_000_000_000, 3_000_000), (21_000_000_000, 3_000_000)]
    assert [frame.values for frame in group[1]] == [(2320, 0.0), (2321, 1.5)]


def test_the_committed_vectors_are_what_the_generator_makes():
    """Whoever changes the format must change them, and see it."""
    made = vectors()
    assert {path.name: path.read_text("utf-8") for path in FOLDER.iterdir()} == made


@pytest.mark.parametrize("case", cases("valid.json"))
def test_a_valid_vector_is_read(case):
    """Header and contents are as they stand beside it."""
    layouts = [decode_layout(bytes.fromhex(encoded)) for encoded in case["layouts"]]
    found = decoded(decode_block(bytes.fromhex(case["block"])), layouts)
    assert json.loads(json.dumps(found)) == {"header": case["header"], "payload": case["payload"]}


@pytest.mark.parametrize("case", cases("invalid.json"))
def test_an_invalid_vector_is_refused_with_its_reason(case):
    """Everything up to decoding the payload."""
    layouts = [decode_layout(bytes.fromhex(encoded)) for encoded in case["layouts"]]
    block = decode_block(bytes.fromhex(case["block"]))
    with pytest.raises(BlockInvalid) as refused:
        payload_of(block, open_envelope(block.envelope, KEYS), layouts)
    assert refused.value.reason == case["reason"]


@pytest.mark.parametrize("case", cases("chains.json"))
def test_a_chain_vector_gets_its_verdict(case):
    """Faults, gaps, repeats and totals."""
    verifier = Verifier([bytes.fromhex(KEY["public_key"])])
    for encoded in case["blocks"]:
        block: Block = decode_block(bytes.fromhex(encoded))
        verifier.feed(block.envelope, block.payload)
    report = verifier.report()
    assert (report.verdict, report.blocks, report.readings) == (case["verdict"], case["proven"], case["readings"])
    assert (report.evicted, report.repeats) == (case["evicted"], case["repeats"])
    assert [[fault.reason, fault.seq] for fault in report.faults] == case["faults"]
    assert [[gap.first_seq, gap.last_seq, gap.readings] for gap in report.gaps] == case["gaps"]
