"""Fixtures of the buffer: a file that is not there yet, and a store on it."""

import pytest
from chains import key

from buffer.store import Store


@pytest.fixture
def path(tmp_path):
    """Give where the buffer will be."""
    return tmp_path / "state" / "buffer.db"


@pytest.fixture
def store(path):
    """Give an open store."""
    with Store.open(path, [key().public_key]) as opened:
        yield opened
