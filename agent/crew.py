"""Who works at something that comes and goes: pollers by the name of their link, uplinks by their own.

What is always true here: each has one task in the house's group, so that a bug of one ends the house; who is dismissed
has ended, and let go of port and connection, when `dismiss` returns.
"""

import asyncio
from collections.abc import Coroutine, Iterable
from typing import Any, Generic, Protocol, TypeVar


class Worker(Protocol):
    """Runs until cancelled."""

    def run(self) -> Coroutine[Any, Any, None]:
        """Work."""
        ...


W = TypeVar("W", bound=Worker)


class Crew(Generic[W]):
    """Workers by name, in the order they came."""

    def __init__(self, house: asyncio.TaskGroup, trade: str) -> None:
        self._house = house
        self._trade = trade
        self._workers: dict[str, tuple[W, asyncio.Task[None]]] = {}

    def start(self, name: str, worker: W) -> None:
        """Let a worker begin."""
        self._workers[name] = worker, self._house.create_task(worker.run(), name=f"{self._trade} {name}")

    @property
    def names(self) -> tuple[str, ...]:
        """Who is here."""
        return tuple(self._workers)

    def workers(self, names: Iterable[str] | None = None) -> tuple[W, ...]:
        """Give the named workers, or all."""
        return tuple(self._workers[name][0] for name in (self._workers if names is None else names))

    async def dismiss(self, names: Iterable[str], within_s: float = 0.0) -> None:
        """Wait so long for the named to end by themselves, then cancel them."""
        named = tuple(names)
        tasks = [self._workers[name][1] for name in named]
        if not tasks:
            return
        if within_s:
            await asyncio.wait(tasks, timeout=within_s)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        for name in named:
            del self._workers[name]
