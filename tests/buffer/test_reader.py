"""Tools read a buffer beside its service, without it, and from a medium that cannot be written; they change nothing."""

import os
import subprocess

import pytest
from chains import fill, key

from buffer.errors import BufferUnreadable
from buffer.store import Reader, Store

TRUSTED = [key().public_key]


def test_a_reader_sees_committed_blocks_beside_the_service(store, path):
    """Read-only, a few rows a transaction."""
    blocks = fill(store, commits=150)
    with Reader(path) as reader:
        assert [block for _, block in reader.blocks("main")] == blocks
        assert reader.digest_at_head("main") == blocks[-1].digest
        assert reader.digest_at_head("nobody") is None
        with pytest.raises(BufferUnreadable):
            reader._rows("DELETE FROM block_1")
        new = fill(store, commits=1, stream="second")
        assert [block for _, block in reader.blocks("second")] == new


def test_a_reader_needs_a_file(path):
    """A tool never makes a buffer."""
    with pytest.raises(BufferUnreadable):
        Reader(path)
    assert not path.exists()


def test_a_reader_reads_what_a_killed_service_left(path, tmp_path):
    """With the log beside it; and a lone copy in a folder that takes no new file."""
    with Store.open(path, TRUSTED) as store:
        blocks = fill(store)
        for name in ("buffer.db", "buffer.db-wal", "buffer.db-shm"):
            (tmp_path / name).write_bytes((path.parent / name).read_bytes())
    with Reader(tmp_path / "buffer.db") as reader:
        assert [block for _, block in reader.blocks("main")] == blocks


@pytest.mark.root
@pytest.mark.skipif(os.geteuid() != 0, reason="mounting needs root")
def test_a_reader_reads_from_a_read_only_medium(path, tmp_path):
    """A memory card behind a write protection; with a log that cannot be opened there, one clear error."""
    with Store.open(path, TRUSTED) as store:
        blocks = fill(store)
        log = (path.parent / "buffer.db-wal").read_bytes()
    mount = tmp_path / "medium"
    mount.mkdir()
    bind = subprocess.run(["mount", "--bind", str(path.parent), str(mount)], check=False, capture_output=True)
    if bind.returncode:
        pytest.skip("this machine may not mount")
    try:
        subprocess.run(["mount", "-o", "remount,bind,ro", str(mount)], check=True)
        with Reader(mount / "buffer.db") as reader:
            assert [block for _, block in reader.blocks("main")] == blocks
        (path.parent / "buffer.db-wal").write_bytes(log)
        with pytest.raises(BufferUnreadable):
            Reader(mount / "buffer.db")
    finally:
        subprocess.run(["umount", str(mount)], check=True)
