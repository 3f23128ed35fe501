"""B1: a sealed block never changes, from the seal to the auditor."""

from chains import Station, key

from buffer.block import Block, check_payload, decode_block, encode_block, open_envelope, trust
from buffer.errors import BlockInvalid
from buffer.store import Reader, Store

KEYS = trust([key().public_key])


def test_what_was_sealed_is_what_is_stored_sent_and_verified(tmp_path):
    """The same bytes at every stage, after other commits and another opening too."""
    path = tmp_path / "buffer.db"
    with Store.open(path, [key().public_key]) as store:
        station = Station(epoch=store.epoch)
        sealed = [station.seal() for _ in range(5)]
        for one in sealed:
            store.append([one])
    blocks = [block for one in sealed for block in one.blocks]
    with Store.open(path, [key().public_key]) as store:
        store.append([Station(epoch=store.epoch, heads=store.heads()).seal()])
        stored = [block for _, block, _ in store.read("main", 1, len(blocks)).blocks]
    with Reader(path) as reader:
        read = [block for _, block in reader.blocks("main")][: len(blocks)]
    assert stored == read == blocks
    assert [decode_block(encode_block(block)) for block in stored] == blocks


def test_no_statement_of_the_store_rewrites_a_block(tmp_path):
    """Whatever an opening, an append and a proof do, they do not update or delete blocks."""
    with Store.open(tmp_path / "buffer.db", [key().public_key]) as store:
        statements: list[str] = []
        store._db.set_trace_callback(statements.append)
        station = Station(epoch=store.epoch)
        for _ in range(3):
            store.append([station.seal()])
        store.prove()
        store._db.set_trace_callback(None)
    touching = [sql for sql in statements if "block_1" in sql and not sql.startswith(("SELECT", "CREATE TABLE"))]
    assert touching
    assert all(sql.startswith("INSERT INTO block_1") for sql in touching)


def test_any_changed_bit_of_a_stored_block_is_noticed():
    """Every bit of the envelope is under the signature, every bit of the payload under a digest in it."""
    block = Station().blocks(2)[1]
    for at in range(len(block.envelope) * 8):
        envelope = flipped(block.envelope, at)
        assert not proven(Block(envelope, block.payload)), at
    for at in range(len(block.payload) * 8):
        assert not proven(Block(block.envelope, flipped(block.payload, at))), at


def flipped(data: bytes, bit: int) -> bytes:
    """Flip one bit."""
    number = int.from_bytes(data, "little") ^ (1 << bit)
    return number.to_bytes(len(data), "little")


def proven(block: Block) -> bool:
    """Say whether a block is believed."""
    try:
        check_payload(block, open_envelope(block.envelope, KEYS))
    except BlockInvalid:
        return False
    return True
