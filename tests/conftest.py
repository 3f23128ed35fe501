"""Fixtures for every room."""

import os
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest
from ports import quiet_port
from rig import Platform
from steady import SteadyLoop

from agent.demo.brokers import Mosquitto
from agent.demo.certificates import Authority


def pytest_asyncio_loop_factories() -> dict[str, Callable[[], SteadyLoop]]:
    """Run every test on a loop that does not count the time in which the machine stood still."""
    return {"steady": SteadyLoop}


@pytest.fixture
async def platform(tmp_path: Path) -> AsyncIterator[Platform]:
    """Give a running broker."""
    directory = tmp_path / "platform"
    authority = Authority(directory)
    broker = Mosquitto(directory, authority, quiet_port())
    await broker.start()
    yield Platform(broker, authority)
    await broker.kill()


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Skip what needs root where we are not, before anything is set up for it."""
    if os.geteuid() != 0:
        for item in items:
            if item.get_closest_marker("root") is not None:
                item.add_marker(pytest.mark.skip(reason="needs root"))
