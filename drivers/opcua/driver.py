"""The OPC UA driver: one server, whose nodes are read together or subscribed to.

What is always true here:

- A polled group is one Read call. A node that the server does not know gives its point a status; the rest goes on.
- A subscribed group passes on every notification, in order, with the server's status and source time. `emit` has
  returned before a notification is acknowledged, so nothing that the server may forget is still on its way here.
- When the connection is gone, every `listen` and every later `poll` raises LinkDown.
- Receive times and frame times are whole microseconds.
- asyncua, which takes a second and ten megabytes to load, is loaded by the first `open`, in a thread: whoever judges a
  file needs none of it, and other links are polled meanwhile.
"""

import asyncio
from collections.abc import Sequence
from importlib import import_module
from typing import TYPE_CHECKING, ClassVar

from buffer import status
from buffer.frame import Change, Frame
from drivers.api import Clock, Driver, Emit, Group
from drivers.errors import BadAnswer, LinkDown, NoAnswer
from drivers.opcua.groups import Source, sources
from drivers.opcua.items import Item, Told
from drivers.opcua.settings import OpcUaLink

if TYPE_CHECKING:
    from drivers.opcua.session import Session

_Batch = tuple[Sequence[Change], asyncio.Future[None]]


class _Handover:
    """Hands notifications from the session to one `listen`, one at a time, or the reason why there are no more."""

    def __init__(self) -> None:
        self._waiting: asyncio.Queue[_Batch | LinkDown] = asyncio.Queue()
        self._untaken: set[asyncio.Future[None]] = set()
        self._open = True

    async def give(self, changes: Sequence[Change]) -> None:
        """Hand over changes and wait until they were taken; cancelled, so never acknowledged, if they were not."""
        if not self._open:
            return
        taken = asyncio.get_running_loop().create_future()
        self._untaken.add(taken)
        self._waiting.put_nowait((changes, taken))
        await taken

    def fail(self, error: LinkDown) -> None:
        """End the listening once what came before is taken."""
        self._waiting.put_nowait(error)

    async def pass_on(self, emit: Emit) -> None:
        """Emit what is handed over until the link is down."""
        while True:
            item = await self._waiting.get()
            if isinstance(item, LinkDown):
                raise item
            changes, taken = item
            await emit(changes)
            self._untaken.discard(taken)
            if not taken.done():
                taken.set_result(None)

    def close(self) -> bool:
        """Take nothing more; says whether a notification was left, which ends the asking for further ones."""
        self._open = False
        left = bool(self._untaken)
        for taken in self._untaken:
            taken.cancel()
        return left


class OpcUaDriver(Driver[OpcUaLink]):
    """Reads from and listens to one server."""

    Settings: ClassVar = OpcUaLink

    def __init__(self, name: str, link: OpcUaLink, clock: Clock) -> None:
        super().__init__(name, link, clock)
        made = sources(name, link)
        self.groups = tuple(source.group for source in made)
        self._sources = {(source.group.device, source.group.layout.every_ns): source for source in made}
        self._handovers: set[_Handover] = set()
        self._down: LinkDown | None = None
        self._opened: Session | None = None

    async def open(self) -> None:
        """Connect and log in. Raises LinkDown."""
        self._down = None
        if self._opened is None:
            session = await asyncio.to_thread(import_module, "drivers.opcua.session")
            self._opened = session.Session(self.link, self._lost)
        await self._session.open()

    async def close(self) -> None:
        """Log out and close the connection."""
        if self._opened is not None:
            await self._opened.close()

    @property
    def _session(self) -> "Session":
        """The session, which `open` makes."""
        if self._opened is None:
            raise LinkDown("opcua.closed", url=self.link.url)
        return self._opened

    async def poll(self, group: Group) -> Frame:
        """Read every node of a group in one call. Raises LinkDown, NoAnswer, BadAnswer."""
        source = self._sources[group.device, group.layout.every_ns]
        self._check()
        began_ns = self.clock.boot_ns()
        answers = await self._session.read([point.node for point in source.points])
        ended_ns = self.clock.boot_ns()
        taken = [fit(answer.value, answer.status) for fit, answer in zip(source.fits, answers, strict=True)]
        values = tuple(value for value, _ in taken)
        statuses = tuple(code for _, code in taken)
        span_ns = ended_ns - began_ns
        return Frame(ended_ns - ended_ns % 1000, span_ns - span_ns % 1000, values, statuses if any(statuses) else None)

    async def listen(self, group: Group, emit: Emit) -> None:
        """Pass on every change of a subscribed group. Raises LinkDown when the server is gone."""
        source = self._sources[group.device, group.layout.every_ns]
        assert source.device.subscribe is not None
        self._check()
        handover = _Handover()
        self._handovers.add(handover)
        try:
            await self._subscribe(source, source.device.subscribe, handover, emit)
            await handover.pass_on(emit)
        finally:
            self._handovers.discard(handover)
            if handover.close() and self._handovers:
                self._lost(LinkDown("opcua.listener-gone", device=group.device))

    async def _subscribe(self, source: Source, every_ns: int, handover: _Handover, emit: Emit) -> None:
        async def notify(told: Sequence[Told]) -> None:
            await handover.give(self._changes(source, told))

        items = [
            Item(point.node, point.queue, None if point.deadband is None else float(point.deadband))
            for point in source.points
        ]
        try:
            codes = await self._session.subscribe(every_ns, source.device.sampling, items, notify)
        except (NoAnswer, BadAnswer) as error:  # without a subscription there is nothing to listen to
            raise LinkDown(error.code, **error.fields) from error
        refused = [Told(i, None, code, None) for i, code in enumerate(codes) if status.is_bad(code)]
        if refused:
            await emit(self._changes(source, refused))

    def _changes(self, source: Source, told: Sequence[Told]) -> list[Change]:
        now_ns = self.clock.boot_ns()
        now_ns -= now_ns % 1000
        fits = source.fits
        return [
            Change(item, source_ns, now_ns, *fits[item](value, code))
            for item, value, code, source_ns in told
            if item < len(fits)
        ]

    def _check(self) -> None:
        if self._down is not None:
            raise self._down

    def _lost(self, error: LinkDown) -> None:
        if self._down is not None:
            return
        self._down = error
        for handover in self._handovers:
            handover.fail(error)
