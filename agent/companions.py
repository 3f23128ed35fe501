"""Tasks that live and die together with a connection."""

import asyncio
from collections.abc import Iterable, Sequence
from typing import Any


async def until_one_ends(connection: asyncio.Future[None], companions: Sequence[asyncio.Task[Any]]) -> None:
    """Wait until the connection or one of its companions ends, and raise what it raised.

    Whatever happens, cancellation included, the companions are cancelled and have ended when this returns.
    """
    try:
        done, _ = await asyncio.wait([connection, *companions], return_when=asyncio.FIRST_COMPLETED)
        for ended in done:
            ended.result()
    finally:
        await dismiss(companions)


async def dismiss(tasks: Iterable[asyncio.Task[Any]]) -> None:
    """Cancel tasks, and wait until all have ended."""
    leaving = tuple(tasks)
    for task in leaving:
        task.cancel()
    await asyncio.gather(*leaving, return_exceptions=True)
