"""Fixtures for every room."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from rig import Platform

from agent.demo.brokers import Mosquitto
from agent.demo.certificates import Authority


@pytest.fixture
async def platform(tmp_path: Path) -> AsyncIterator[Platform]:
    """Give a running broker."""
    directory = tmp_path / "platform"
    authority = Authority(directory)
    broker = Mosquitto(directory, authority, None)
    await broker.start()
    yield Platform(broker, authority)
    await broker.kill()
