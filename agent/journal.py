"""The journal of pushes: what was judged, how far the last one came, and the files it is about.

| in `NAME.push/` beside the configuration NAME | |
|---|---|
| `journal.json` | the `Journal`; replaced as a whole at every state |
| `previous.yaml` | the configuration before the one on probation |
| `conflict.cbor` | the envelope that was refused because of an edit made here |

and `NAME.pushed` beside it, the staged configuration: it is judged where it will stand.

What is always true here:

- A state is on the disk before what it announces is begun (`applied` before the file is replaced, `rolling-back`
  before it is put back), so whatever end comes, the next start knows what to finish.
- The main file is replaced only while the whole configuration, `links.d` too, is exactly the one the push was based
  on, and put back only while it is exactly the one that was pushed: what a technician writes meanwhile stays.
- Files in `links.d` are never written.
- Probation is counted in running time: boot time within one boot, nothing for the time between two. No wall clock.
- The folder is locked by the service that uses it: a second one, started by mistake, finishes nothing.
- A damaged journal is left as it is, and nothing is obeyed until a person has looked.

`agent.ota` enters, and the service before it reads the configuration.
"""

import fcntl
import os
from collections.abc import Callable
from dataclasses import dataclass, replace
from hashlib import sha256
from pathlib import Path
from typing import Literal

from agent import aside, durable, json_record
from config.raw import SIZE_LIMIT as CONFIG_LIMIT
from config.raw import digest_of, read_regular
from config.trust import FILE_NAME as TRUST_NAME
from config.trust import SIZE_LIMIT as TRUST_LIMIT
from config.trust import Standing, TrustInvalid
from config.verdict import Accepted, Confirmed, Replaced, State

NS_PER_S = 10**9
GRACE_S = 15
"""How long after its probation a push may still become good."""
MOST_STARTS = 8
"""So many starts within one probation, and the configuration is held to be what ends them."""
MOST_ATTEMPTS = 3
KEPT_CONFIRMED = 32
JOURNAL_LIMIT = 2**20

Step = Literal["verified", "staged", "validated", "applied", "rolling-back", "confirmed", "rolled-back", "rejected"]
BEFORE_APPLIED = ("verified", "staged", "validated")
ENDED = ("confirmed", "rolled-back", "rejected")


@dataclass(frozen=True, slots=True)
class Flight:
    """One push that was found genuine, and how far it came. Digests are in hexadecimal."""

    platform: str
    epoch: int
    version: int
    digest: str
    base: str
    target: str
    probation_s: int
    state: Step = "verified"
    reason: str = ""
    steps: tuple[Step, ...] = ()
    told: bool = False
    """Whether all its steps are in the logbook for certain."""
    alive: tuple[str, ...] = ()
    connected: tuple[str, ...] = ()
    boot_id: str = ""
    boot_ns: int = 0
    elapsed_ns: int = 0
    starts: int = 0

    @property
    def over(self) -> bool:
        """Say whether it has come to its end."""
        return self.state in ENDED


@dataclass(frozen=True, slots=True)
class Past:
    """A configuration that was confirmed here."""

    epoch: int
    version: int
    target: str


@dataclass(frozen=True, slots=True)
class Journal:
    """What is remembered for ever, and the last flight."""

    epoch: int = 0
    version: int = 0
    digest: str = ""
    trust_version: int = 0
    trust_digest: str = ""
    floor_s: int = 0
    confirmed: tuple[Past, ...] = ()
    conflict: str = ""
    flight: Flight | None = None


Point = Callable[[str], None]
"""Told before and after every step to the disk; the tests' way to end the process there."""


def nowhere(_point: str) -> None:
    """Go on."""


class Hold:
    """The files of one configuration's pushes. Everything here blocks for as long as the disk takes."""

    def __init__(self, config: Path, boot_id: str, boot_ns: Callable[[], int], point: Point = nowhere) -> None:
        self.config = config
        self.folder = config.with_name(f"{config.name}.push")
        self.staged = config.with_name(f"{config.name}.pushed")
        self.trust_path = config.with_name(TRUST_NAME)
        self._journal_path = self.folder / "journal.json"
        self._previous = self.folder / "previous.yaml"
        self._conflict = self.folder / "conflict.cbor"
        self._boot_id = boot_id
        self._boot_ns = boot_ns
        self._point = point
        self.journal = Journal()
        self.damaged = False
        self._lock: int | None = None
        self._standing: Standing | None = None
        self._load()

    def _load(self) -> None:
        try:
            self.journal = json_record.read(Journal, read_regular(self._journal_path, JOURNAL_LIMIT))
        except FileNotFoundError:
            return
        except (OSError, ValueError):
            self.damaged = True

    def own(self) -> bool:
        """Make the folder if need be and hold its lock until the process ends; False where another service does."""
        if self._lock is not None:
            return True
        durable.make_directory(self.folder)
        descriptor = os.open(self.folder, os.O_RDONLY | os.O_DIRECTORY)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(descriptor)
            return False
        self._lock = descriptor
        return True

    def release(self) -> None:
        """Let go of the lock, as the end of the process does."""
        if self._lock is not None:
            os.close(self._lock)
            self._lock = None

    # -- what the judge is told ------------------------------------------------------------------------------------

    def current(self) -> bytes:
        """Read the configuration as it stands; nothing where it cannot be read."""
        return _read(self.config, CONFIG_LIMIT)

    def files(self) -> str:
        """Give the digest of the configuration as it stands, with its `links.d`, in hexadecimal."""
        return (digest_of(self.config) or sha256(self.current()).digest()).hex()

    def trust(self) -> Standing | None:
        """Read the trust document; None where there is none that can be read. Raises AsideFailed."""
        data = _read(self.trust_path, TRUST_LIMIT)
        if not data:
            return None
        if self._standing is None or self._standing.digest != sha256(data).digest():
            try:
                self._standing = aside.ask("read-trust", data)
            except TrustInvalid:
                return None
        return self._standing

    def state(self, gateway: str, platform: str, accepted_remote: str = "") -> State:
        """Give what the judge is told."""
        journal = self.journal
        return State(
            gateway,
            platform,
            self.current(),
            journal.epoch,
            journal.version,
            bytes.fromhex(journal.digest),
            journal.trust_version,
            bytes.fromhex(journal.trust_digest),
            tuple(Confirmed(one.epoch, one.version, bytes.fromhex(one.target)) for one in journal.confirmed),
            busy=journal.flight is not None and not journal.flight.over,
            accepted_remote=bytes.fromhex(accepted_remote),
            files=bytes.fromhex(self.files()),
        )

    # -- the states ------------------------------------------------------------------------------------------------

    def keep_conflict(self, envelope: bytes, accepted: Accepted, platform: str) -> None:
        """Keep a push that was refused because of an edit made here, and count it as judged."""
        self.own()
        durable.write(self._conflict, envelope)
        flight = replace(_flight(accepted, platform), base=accepted.push.base.hex())
        self._judged(accepted, replace(flight, state="rejected", reason="push.base-changed", steps=("rejected",)))
        self._save(replace(self.journal, conflict=accepted.digest.hex()))

    def conflict(self) -> bytes:
        """Give the envelope that was kept; nothing where there is none."""
        return _read(self._conflict, CONFIG_LIMIT) if self.journal.conflict else b""

    def verified(self, accepted: Accepted, platform: str) -> None:
        """Note a push that was found genuine: its number is used up. The base of one that is let in is what stands."""
        self.own()
        self._point("before verified")
        durable.write(self.staged, accepted.push.configuration, self._mode())
        base = self.files() if self.journal.conflict == accepted.digest.hex() else accepted.push.base.hex()
        self._judged(accepted, replace(_flight(accepted, platform), base=base))
        self._save(replace(self.journal, conflict=""))
        self._point("verified")

    def _judged(self, accepted: Accepted, flight: Flight) -> None:
        """Remember the highest number: going back does not lower it."""
        push, journal = accepted.push, self.journal
        highest = max(push.version, journal.version) if push.epoch == journal.epoch else push.version
        self.journal = replace(journal, epoch=push.epoch, version=highest, digest=accepted.digest.hex(), flight=flight)

    def step(self, state: Step, reason: str = "") -> None:
        """Come to the next state."""
        flight = self._flight()
        self._point(f"before {state}")
        self._put(replace(flight, state=state, reason=reason, steps=(*flight.steps, state)))
        self._point(state)

    def apply(self, alive: tuple[str, ...], connected: tuple[str, ...]) -> bool:
        """Replace the configuration; False where it is not the one any more that the push was based on."""
        flight = self._flight()
        if self.files() != flight.base:
            self.step("rejected", "push.base-changed")
            return False
        durable.write(self._previous, self.current(), self._mode())
        now = {"boot_id": self._boot_id, "boot_ns": self._boot_ns()}
        self._point("before applied")
        steps: tuple[Step, ...] = (*flight.steps, "applied")
        self._put(replace(flight, state="applied", steps=steps, alive=alive, connected=connected, **now))  # type: ignore[arg-type]
        self._point("announced")
        durable.move(self.staged, self.config)
        self._point("applied")
        return True

    def run_on(self) -> int:
        """Count running time of the probation, write it down, and give what is left of it."""
        flight = self._flight()
        now_ns = self._boot_ns()
        more_ns = max(0, now_ns - flight.boot_ns) if flight.boot_id == self._boot_id else 0
        elapsed_ns = flight.elapsed_ns + more_ns
        self._put(replace(flight, boot_id=self._boot_id, boot_ns=now_ns, elapsed_ns=elapsed_ns))
        return flight.probation_s * NS_PER_S - elapsed_ns

    def left_ns(self) -> int:
        """Give what is left of the probation, without writing."""
        flight = self._flight()
        return flight.probation_s * NS_PER_S - flight.elapsed_ns - (self._boot_ns() - flight.boot_ns)

    def confirm(self) -> None:
        """Make the configuration on probation the good one."""
        flight = self._flight()
        past = Past(flight.epoch, flight.version, flight.target)
        confirmed = (past, *(one for one in self.journal.confirmed if one != past))[:KEPT_CONFIRMED]
        self.journal = replace(self.journal, confirmed=confirmed)
        self.step("confirmed")

    def roll_back(self, reason: str) -> None:
        """Put the previous configuration back, unless another was written here meanwhile."""
        if self._flight().state != "rolling-back":
            self.step("rolling-back", reason)
        edited = self._digest() not in (self._flight().target, self._before())
        if self._digest() == self._flight().target:
            durable.write(self.config, _read(self._previous, CONFIG_LIMIT), self._mode())
        self._point("put back")
        self.step("rolled-back", "push.local-edit" if edited else self._flight().reason)

    def replace_trust(self, replaced: Replaced) -> None:
        """Put the next trust document in place. The file goes first: one that is newer than the journal is believed."""
        self.own()
        durable.write(self.trust_path, replaced.data)
        self._point("trust written")
        self.note_trust(Standing(replaced.trust, sha256(replaced.data).digest()))

    def note_trust(self, trust: Standing) -> None:
        """Remember the newest trust document, which is never gone behind."""
        if trust.document.version > self.journal.trust_version and not self.damaged:
            self.own()
            digest = trust.digest.hex()
            self._save(replace(self.journal, trust_version=trust.document.version, trust_digest=digest))

    def note_floor(self, floor_s: int) -> None:
        """Remember a moment that has certainly passed; it is written with the next state."""
        self.journal = replace(self.journal, floor_s=max(self.journal.floor_s, floor_s))

    def told(self) -> None:
        """Note that all steps of the last flight are in the logbook."""
        self._put(replace(self._flight(), told=True))

    # -- the next start --------------------------------------------------------------------------------------------

    def recover(self) -> None:
        """Finish what an end of the process left open, before the configuration is read."""
        flight = self.journal.flight
        if flight is None or flight.over or self.damaged or not self.own():
            return
        if flight.state == "rolling-back":
            self.roll_back(flight.reason)
            return
        self._put(replace(flight, starts=flight.starts + 1))
        if flight.state in BEFORE_APPLIED:
            if (
                flight.starts + 1 >= MOST_ATTEMPTS
                or sha256(_read(self.staged, CONFIG_LIMIT)).hexdigest() != flight.target
            ):
                self.step("rejected", "push.interrupted")
            return
        self._recover_applied(flight)

    def _recover_applied(self, flight: Flight) -> None:
        left_ns = self.run_on()
        if self._digest() == self._before() and sha256(_read(self.staged, CONFIG_LIMIT)).hexdigest() == flight.target:
            durable.move(self.staged, self.config)
        if left_ns <= -GRACE_S * NS_PER_S:
            self.roll_back("push.not-confirmed")
        elif flight.starts + 1 >= MOST_STARTS:
            self.roll_back("push.restarts")
        elif self._digest() != flight.target:
            self.roll_back("push.interrupted")

    def give_up(self) -> bool:
        """Put the previous configuration back if the one on probation does not start; say whether there was one."""
        if self._lock is None or not self.on_probation:
            return False
        self.roll_back("push.not-started")
        return True

    @property
    def on_probation(self) -> bool:
        """Say whether the configuration that stands there is on probation."""
        flight = self.journal.flight
        return flight is not None and flight.state == "applied" and not self.damaged

    def _flight(self) -> Flight:
        assert self.journal.flight is not None
        return self.journal.flight

    def _put(self, flight: Flight) -> None:
        self._save(replace(self.journal, flight=flight))

    def _save(self, journal: Journal) -> None:
        self.journal = journal
        durable.write(self._journal_path, json_record.written(journal))

    def _digest(self) -> str:
        return sha256(self.current()).hexdigest()

    def _before(self) -> str:
        """Give the digest of the main file that the push on probation replaces."""
        return sha256(_read(self._previous, CONFIG_LIMIT)).hexdigest()

    def _mode(self) -> int:
        try:
            return self.config.stat().st_mode & 0o777
        except OSError:
            return 0o640


def _flight(accepted: Accepted, platform: str) -> Flight:
    push = accepted.push
    return Flight(
        platform,
        push.epoch,
        push.version,
        accepted.digest.hex(),
        push.base.hex(),
        push.target.hex(),
        push.probation_s,
        steps=("verified",),
    )


def _read(path: Path, limit: int) -> bytes:
    try:
        return read_regular(path, limit + 1)
    except OSError:
        return b""
