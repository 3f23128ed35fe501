"""A change of configuration while the station runs: what differs, what may not differ, and who is told.

What is always true here:

- A configuration is taken as a whole or not at all. What is refused changes nothing, and is told to whoever asked, to
  the log, to `status` and to the logbook.
- The file is read, and its drivers are made, in a thread of their own: no tick waits for it.
- There is one reload at a time. Who asks before it begins shares its answer; who asks later gets the next one.
- A link or an uplink counts as unchanged only if all it was made from is equal.

The composition root enters.
"""

import asyncio
from collections.abc import Awaitable, Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any, NamedTuple, NoReturn

from agent import faults
from agent.errors import AsideFailed, Exit
from agent.health import Document, Health
from agent.log import Log
from agent.owner import in_daemon
from agent.recorder import Recorder
from agent.settings import Settings
from agent.words import Words
from buffer.errors import BufferFault
from buffer.frame import Layout
from config.errors import ConfigFaults, Fault, KeyPath, fault_at
from config.loaded import Loaded
from config.model import Buffer, Config
from config.raw import digest_of
from drivers.api import Driver

CHANGEABLE = frozenset({"seal_every"})
"""Of `buffer`, what may change while the station runs."""

_log = Log("reload")


class Difference(NamedTuple):
    """What must stop and what must start, by name; what changed stands in both."""

    gone: tuple[str, ...]
    new: tuple[str, ...]


def difference(before: Mapping[str, object], after: Mapping[str, object]) -> Difference:
    """Compare what is made from two configurations."""
    gone = tuple(name for name, one in before.items() if name not in after or after[name] != one)
    new = tuple(name for name, one in after.items() if name not in before or before[name] != one)
    return Difference(gone, new)


def makings(drivers: Mapping[str, Driver[Any]]) -> dict[str, object]:
    """Give what each link is made from: its settings with all profiles and secrets, and the order of its points."""
    return {name: (driver.link, driver.groups) for name, driver in drivers.items()}


def catalogues(drivers: Iterable[Driver[Any]]) -> dict[str, tuple[Layout, ...]]:
    """Give what the positions of each stream mean."""
    found: dict[str, tuple[Layout, ...]] = {}
    for driver in drivers:
        for group in driver.groups:
            found[group.stream] = (*found.get(group.stream, ()), group.layout)
    return found


def carriers(config: Config) -> dict[str, tuple[str, ...] | None]:
    """Give the streams that each uplink carries, None for all: what counts as delivered."""
    return {name: uplink.streams or None for name, uplink in config.uplinks.items()}


FIXED: tuple[KeyPath, ...] = (
    ("gateway", "id"),
    *(("buffer", one.name) for one in fields(Buffer) if one.name not in CHANGEABLE),
)
"""Where the file says what may not change while the station runs."""


def fixed_faults(before: Config, after: Loaded) -> Iterator[Fault]:
    """Name what has changed and cannot while the station runs."""
    for path in FIXED:
        part, key = map(str, path)
        old, new = (getattr(getattr(config, part), key) for config in (before, after.config))
        if old != new:
            yield fault_at(after.spot(path), "agent.needs-restart", path, before=old)


@dataclass(slots=True)
class Reloader:
    """Carries out reloads, one after the other. `apply` raises ConfigFaults or BufferFault, having changed nothing."""

    file: Path
    read: Callable[[], Settings]
    apply: Callable[[Settings], Awaitable[Document]]
    recorder: Recorder
    health: Health
    _asked: asyncio.Future[Document] | None = None
    _wake: asyncio.Event = field(default_factory=asyncio.Event)

    def ask(self) -> asyncio.Future[Document]:
        """Ask for a reload; the answer is what became of it."""
        if self._asked is None:
            self._asked = asyncio.get_running_loop().create_future()
            self._wake.set()
        return self._asked

    async def order(self) -> Document:
        """Reload as the control socket asks for it; whoever hangs up stops nothing."""
        return await asyncio.shield(self.ask())

    async def run(self) -> NoReturn:
        """Carry out what is asked for, until cancelled."""
        while True:
            await self._wake.wait()
            self._wake.clear()
            asked, self._asked = self._asked, None
            answer = await self._reload()
            if asked is not None and not asked.done():
                asked.set_result(answer)

    async def _reload(self) -> Document:
        try:
            settings = await in_daemon("reload", self.read)
            answer = await self.apply(settings)
        except ConfigFaults as found:
            return await self._faulty(found)
        except BufferFault as error:
            return self._not_now("agent.reload-buffer", error, Exit.BUFFER)
        except AsideFailed as error:
            return self._not_now(error.code, error, error.exit)
        self.health.config_error = None
        for warning in settings.warnings:
            _log.warning(warning.code, **{**warning.fields, "file": warning.file, "line": warning.line})
        return {"ok": True, **answer}

    async def _faulty(self, found: ConfigFaults) -> Document:
        first = found.faults[0]
        words = Words(faults.language_of(self.file, {}))
        fields = {"file": first.file, "line": first.line, "count": len(found.faults)}
        self._refused(
            await in_daemon("digest", lambda: digest_of(self.file)), "agent.reload-refused", first.code, fields
        )
        return {"text": faults.text(found, words), "exit": Exit.CONFIG, **faults.document(found, words)}

    def _not_now(self, code: str, error: BufferFault | AsideFailed, ended: Exit) -> Document:
        """Refuse for a reason that is not in the file."""
        self._refused(b"", code, error.code, error.fields)
        fields = {name: str(value) for name, value in error.fields.items()}
        return {"ok": False, "error": code, "fields": fields, "exit": ended}

    def _refused(self, digest: bytes, code: str, reason: str, fields: Mapping[str, object]) -> None:
        self.health.config_error = (code, fields)
        _log.error("config-refused", **{**fields, "code": reason})
        running = bytes.fromhex(self.health.config_digest)
        self.recorder.event("config-refused", config=digest, running=running, reason=reason, urgent=True)
