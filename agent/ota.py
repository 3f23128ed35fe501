"""A configuration from the platform, from its bytes to its end: tried, confirmed, or undone by itself.

    received → verified → staged → validated → applied (probation) → confirmed
                   └──────────┴────────┴→ rejected(reason)   └→ rolling-back → rolled-back(reason)

What is always true here:

- What came is obeyed only after `config.push.judge` said so (B9). One is in flight; a repeat changes nothing.
- Every state from `verified` on is on the disk before the next is begun (`agent.journal`). What was not found genuine
  leaves no trace there: whoever sends rubbish writes nothing to flash.
- A configuration is confirmed when its probation is over and it proves itself then (`agent.probation`); if it does not
  within `GRACE_S` more, the previous one returns. That needs no uplink and no wall clock.
- Every state is an event in the chain, told again after a restart until it is certain; a reader drops repeats by the
  digest of the push and the state. `result` says the same to the platform, retained.

The composition root enters, and `agent.push_mail` for each uplink that accepts pushes.
"""

import asyncio
import contextlib
import json
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import NoReturn

from agent import aside, probation, trial
from agent.errors import AsideFailed, Exit
from agent.health import Document
from agent.journal import BEFORE_APPLIED, GRACE_S, NS_PER_S, Hold, Step
from agent.log import Log
from agent.owner import in_daemon
from agent.settings import Settings
from buffer.seal import Moment
from config.envelope import SIZE_LIMIT
from config.push import judge
from config.trust import Standing
from config.verdict import Accepted, Now, Rejected, Replaced

LOOK_EVERY_S = 1.0
WRITE_EVERY_NS = 10 * NS_PER_S
"""How often the running time of a probation is written down: what a power cut can lengthen it by."""
SETTLES_S = 10.0
"""How long after a start its devices are given to answer, before a push that was interrupted goes on."""
TOLD_AFTER_S = 10.0
MOST_WAITING = 4

_log = Log("push")


@dataclass(frozen=True, slots=True)
class House:
    """The station, as far as a push reaches into it."""

    reload: Callable[[], Awaitable[Document]]
    """Go over to what stands in the configuration file; `ok` says whether it was done."""
    health: Callable[[], Document]
    """The state of the whole station."""
    event: Callable[..., None]
    """Enter an event in every stream: its kind, `urgent`, and its data."""


class _Aside:
    """Reads what a push holds in a process of its own."""

    def trust(self, data: bytes) -> Standing:
        found: Standing = aside.ask("read-trust", data)
        return found

    def touched(self, before: bytes, after: bytes, critical: tuple[str, ...]) -> tuple[str, ...]:
        found: tuple[str, ...] = aside.ask("touched", before, after, critical)
        return found


@dataclass(frozen=True, slots=True)
class Mail:
    """What an uplink brought. Without a payload: what was refused because of an edit made here is let in."""

    platform: str
    payload: bytes


@dataclass(slots=True)
class Refused:
    """What was last refused of a platform's messages, and how many were."""

    code: str = ""
    digest: str = ""
    count: int = 0


class Ota:
    """The pushes of one station. `run` until cancelled."""

    def __init__(
        self,
        hold: Hold,
        house: House,
        moment: Callable[[], Moment],
        read: Callable[[Path], Settings],
        gateway: str,
        settles_s: float = SETTLES_S,
    ) -> None:
        self._hold = hold
        self._house = house
        self._moment = moment
        self._read = read
        self._gateway = gateway
        self._settles_s = settles_s
        self._mail: asyncio.Queue[Mail] = asyncio.Queue(MOST_WAITING)
        self._refused: dict[str, Refused] = {}
        self._baseline: Mapping[str, int] = {}
        self._written_ns = 0
        self._disk_failed = False
        self.turns = 0
        """Grows whenever `result` may have changed."""

    # -- from outside ----------------------------------------------------------------------------------------------

    def take(self, platform: str, payload: bytes) -> None:
        """Take what came over an uplink; a flood is counted, not kept."""
        if len(payload) > SIZE_LIMIT:
            self._refuse(platform, b"", "push.too-large")
        elif self._mail.full():
            self._refuse(platform, payload, "push.busy")
        else:
            self._mail.put_nowait(Mail(platform, payload))

    async def accept_remote(self) -> Document:
        """Let in the push that was refused because of an edit made here. Gives what will be tried, or why not."""
        journal = self._hold.journal
        if not journal.conflict or journal.flight is None:
            return {"ok": False, "error": "push.no-conflict", "fields": {}, "exit": Exit.UNAVAILABLE}
        if self._mail.full():
            return {"ok": False, "error": "push.busy", "fields": {}, "exit": Exit.UNAVAILABLE}
        self._mail.put_nowait(Mail(journal.flight.platform, b""))
        return {"ok": True, "target": journal.flight.target, "version": journal.flight.version}

    def result(self, platform: str) -> bytes:
        """Give what a platform is told on `config/result`."""
        refused = self._refused.get(platform, Refused())
        return json.dumps(
            {
                "gateway": self._gateway,
                "config": self._house.health()["config"],
                "file": self._hold.files(),
                "trust": self._hold.journal.trust_version,
                "push": self._flight_document(),
                "refused": {"reason": refused.code, "push": refused.digest, "count": refused.count}
                if refused.count
                else None,
            },
            separators=(",", ":"),
        ).encode()

    def _flight_document(self) -> Document | None:
        flight = self._hold.journal.flight
        if flight is None:
            return None
        return {
            "digest": flight.digest,
            "platform": flight.platform,
            "epoch": flight.epoch,
            "version": flight.version,
            "state": flight.state,
            "reason": flight.reason or None,
            "base": flight.base,
            "target": flight.target,
        }

    # -- the loop --------------------------------------------------------------------------------------------------

    async def run(self) -> NoReturn:
        """Take up what an earlier run left, then hear, try, watch."""
        try:
            await self._begin()
        except OSError as error:
            _log.error("push-disk", reason=error, folder=self._hold.folder)
        except AsideFailed as error:
            _log.error("push-not-judged", reason=error)
        while True:
            mail = await self._next()
            try:
                if mail is not None:
                    await self._judge(mail)
                if self._hold.on_probation:
                    await self._watch()
            except OSError as error:  # readings matter more: the push waits, or is refused, and polling goes on
                self._disk(mail, error)

    def _disk(self, mail: Mail | None, error: OSError) -> None:
        """Report that the folder of the configuration cannot be written; a probation looks again."""
        if mail is not None:
            self._refuse(mail.platform, mail.payload, "push.disk")
        if not self._disk_failed:
            _log.error("push-disk", reason=error, folder=self._hold.folder)
        self._disk_failed = True

    async def _begin(self) -> None:
        hold = self._hold
        if hold.damaged:
            _log.error("journal-damaged", folder=hold.folder)
        trust = await in_daemon("push", hold.trust)
        if trust is not None:
            await in_daemon("push", lambda: hold.note_trust(trust))
        flight = hold.journal.flight
        if flight is not None and not flight.told:
            for state in flight.steps:
                self._tell(state)
            if flight.state in BEFORE_APPLIED:
                await asyncio.sleep(self._settles_s)
                await self._fly()
            elif flight.over:
                self._tell_for_certain()
        self._take_baseline()

    async def _next(self) -> Mail | None:
        """Wait for mail; while a configuration is on probation, not for long."""
        try:
            async with asyncio.timeout(LOOK_EVERY_S if self._hold.on_probation else None):
                return await self._mail.get()
        except TimeoutError:
            return None

    async def _judge(self, mail: Mail) -> None:
        try:
            await self._hear(mail)
        except AsideFailed as error:  # nothing was noted of it: it may be sent again
            _log.error("push-not-judged", reason=error)
            self._refuse(mail.platform, mail.payload, "push.not-judged")

    async def _hear(self, mail: Mail) -> None:
        hold = self._hold
        remote, payload = "", mail.payload
        if not payload:
            remote, payload = hold.journal.conflict, hold.conflict()
        busy = hold.journal.flight is not None and not hold.journal.flight.over
        if hold.damaged or (remote and busy):
            self._refuse(mail.platform, payload, "push.journal-damaged" if hold.damaged else "push.busy")
            return
        hold.note_floor(_certain_s(self._moment()))
        state, now = hold.state(self._gateway, mail.platform, remote), self._now()
        verdict = await in_daemon("push", lambda: judge(payload, hold.trust(), state, now, _Aside()))
        match verdict:
            case Accepted() as accepted:
                await in_daemon("push", lambda: hold.verified(accepted, mail.platform))
                self._tell("verified")
                await self._fly()
            case Replaced() as replaced:
                await in_daemon("push", lambda: hold.replace_trust(replaced))
                self._house.event(
                    "trust-replaced", trust=sha256(replaced.data).digest(), version=replaced.trust.version
                )
                self.turns += 1
            case Rejected(code, Accepted() as kept):
                await in_daemon("push", lambda: hold.keep_conflict(payload, kept, mail.platform))
                _log.warning("push-conflict", push=kept.digest, version=kept.push.version, code=code)
                self._tell("rejected")
                self._tell_for_certain()
            case Rejected(code):
                self._refuse(mail.platform, payload, code)

    def _refuse(self, platform: str, payload: bytes, code: str) -> None:
        """Report what is not obeyed. Repeats of one reason merge to one event a minute."""
        if code == "push.repeated":
            self.turns += 1
            return
        refused = self._refused.setdefault(platform, Refused())
        refused.code, refused.digest, refused.count = code, sha256(payload).hexdigest(), refused.count + 1
        if refused.count == 1:
            _log.warning("push-refused", uplink=platform, code=code)
        self._house.event("push-refused", push=f"{platform} {code}", digest=sha256(payload).digest())
        self.turns += 1

    # -- one flight ------------------------------------------------------------------------------------------------

    async def _fly(self) -> None:
        """Bring a push that was verified to its probation, or to its end."""
        hold = self._hold
        await self._step("staged")
        if (
            trouble := await in_daemon("push", lambda: trial.trouble(self._read, hold.staged, hold.config))
        ) is not None:
            _log.error("push-invalid", code=trouble[0], detail=trouble[1])
            await self._step("rejected", trouble[0])
            return
        await self._step("validated")
        document = self._house.health()
        alive, connected = probation.alive(document), probation.connected(document)
        if not await in_daemon("push", lambda: hold.apply(alive, connected)):
            self._tell("rejected")
            self._tell_for_certain()
            return
        self._tell("applied")
        answer = await self._house.reload()
        if not answer["ok"]:
            await self._roll_back("push.not-applied", str(answer))
        self._take_baseline()

    def _take_baseline(self) -> None:
        self._baseline = probation.acknowledged(self._house.health())
        self._written_ns = 0

    async def _watch(self) -> None:
        """Look at a configuration on probation: confirm it, undo it, or wait."""
        hold, flight = self._hold, self._hold.journal.flight
        assert flight is not None
        before = flight.alive, flight.connected, flight.platform
        trouble = probation.trouble(before, self._baseline, self._house.health())
        left_ns = await in_daemon("push", hold.run_on) if self._is_time_to_write() else hold.left_ns()
        if left_ns > 0:
            return
        if trouble is None:
            await self._confirm()
        elif left_ns <= -GRACE_S * NS_PER_S:
            await self._roll_back(*trouble)

    def _is_time_to_write(self) -> bool:
        now_ns = self._moment().boot_ns
        due = now_ns - self._written_ns >= WRITE_EVERY_NS
        if due:
            self._written_ns = now_ns
        return due

    async def _confirm(self) -> None:
        flight = self._hold.journal.flight
        assert flight is not None
        if sha256(self._hold.current()).hexdigest() != flight.target:
            await self._roll_back("push.local-edit", "")
            return
        await in_daemon("push", self._hold.confirm)
        _log.info("push-confirmed", push=flight.digest, version=flight.version)
        self._tell("confirmed")
        self._tell_for_certain()

    async def _roll_back(self, code: str, what: str) -> None:
        """Put the previous configuration back and go over to it."""
        _log.error("push-undone", code=code, what=what)
        await in_daemon("push", lambda: self._hold.roll_back(code))
        self._tell("rolling-back")
        self._tell("rolled-back")
        self._tell_for_certain()
        flight = self._hold.journal.flight
        assert flight is not None
        if flight.reason == "push.local-edit":
            return
        answer = await self._house.reload()
        if not answer["ok"]:
            _log.error("push-not-undone", answer=answer)

    async def _step(self, state: Step, reason: str = "") -> None:
        await in_daemon("push", lambda: self._hold.step(state, reason))
        self._tell(state)
        if state == "rejected":
            self._tell_for_certain()

    # -- the logbook -----------------------------------------------------------------------------------------------

    def _tell(self, state: Step) -> None:
        """Enter a state in the chain, and let the platforms know."""
        flight = self._hold.journal.flight
        assert flight is not None
        _log.info("push", state=state, version=flight.version, push=flight.digest)
        self._house.event(
            "config-push",
            urgent=True,
            push=f"{flight.platform} {flight.epoch}.{flight.version} {state}",
            digest=bytes.fromhex(flight.digest),
            base=bytes.fromhex(flight.base),
            target=bytes.fromhex(flight.target),
            reason=flight.reason,
        )
        self.turns += 1

    def _tell_for_certain(self) -> None:
        """Some time after the last state, what was told has been sealed."""
        flight = self._hold.journal.flight
        asyncio.get_running_loop().call_later(TOLD_AFTER_S, lambda: self._certain(flight is self._hold.journal.flight))

    def _certain(self, same: bool) -> None:
        if same:
            with contextlib.suppress(OSError):  # they will be told once more
                self._hold.told()

    def _now(self) -> Now:
        moment, floor_s = self._moment(), self._hold.journal.floor_s
        if moment.clock.quality != "synchronised":
            return Now(None, 0, floor_s)
        return Now(moment.wall_ns // NS_PER_S, _error_s(moment), floor_s)


def _certain_s(moment: Moment) -> int:
    """Give a moment that has certainly passed; 0 where the clock is not synchronised."""
    return moment.wall_ns // NS_PER_S - _error_s(moment) if moment.clock.quality == "synchronised" else 0


def _error_s(moment: Moment) -> int:
    return (moment.clock.max_error_ns or 0) // NS_PER_S + 1
