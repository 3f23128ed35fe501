"""The verdict of the demonstration of pushes: no condition goes unjudged."""

from dataclasses import replace

import pytest

from agent.demo.operators import Outcome
from agent.demo.push_verdict import LOGBOOK, Facts, PushVerdict
from agent.demo.tally import Tally

GOOD = Outcome("good", "confirmed", "", 11.0)
FORGED = Outcome("forged", "refused", "push.unknown-key", 1.0)
FATAL = Outcome("fatal", "rolled-back", "push.not-delivered", 26.0)
FACTS = Facts(1.0, 0.5, stands=True, leave_s=1.0)
VERDICT = PushVerdict(
    instruments={"plant": Tally(100, 100, 100, 0, 0)},
    blocks=100,
    proven=100,
    gaps=[],
    findings=[],
    epochs_ended=0,
    readings=1000,
    outcomes=(GOOD, FORGED, FATAL),
    told=sorted(LOGBOOK),
    facts=FACTS,
    broker="mosquitto, MQTT 5",
    unproven="",
)


def test_what_was_shown_in_full_holds() -> None:
    """The plain case."""
    assert VERDICT.holds
    assert VERDICT.document()["pushes"]["fatal"]["reason"] == "push.not-delivered"


@pytest.mark.parametrize(
    ("fault", "changes"),
    [
        ("good-push", {"outcomes": (replace(GOOD, state="rolled-back"), FORGED, FATAL)}),
        ("forged-push", {"outcomes": (GOOD, replace(FORGED, state="confirmed", reason=""), FATAL)}),
        ("forged-push", {"outcomes": (GOOD, replace(FORGED, reason="push.expired"), FATAL)}),
        ("fatal-push", {"outcomes": (GOOD, FORGED)}),
        ("fatal-push", {"outcomes": (GOOD, FORGED, replace(FATAL, state="silent", reason=""))}),
        ("in-time", {"outcomes": (GOOD, FORGED, replace(FATAL, seconds=40.1))}),
        ("asked-more-often", {"facts": replace(FACTS, every_after_s=0.9)}),
        ("confirmed-one-stands", {"facts": replace(FACTS, stands=False)}),
        ("told-in-the-chain", {"told": sorted(LOGBOOK)[1:]}),
        ("told-in-the-chain", {"told": [*LOGBOOK, "province 1.2 verified"]}),
        ("never-restarted", {"epochs_ended": 1}),
        ("every-instrument-read", {"instruments": {"plant": Tally(0, 0, 0, 0, 0)}}),
        ("nothing-lost", {"instruments": {"plant": Tally(100, 100, 99, 1, 0)}}),
        ("every-block-proven", {"proven": 99}),
        ("no-gaps", {"gaps": ["buffer: main 1..2"]}),
        ("nothing-unexplained", {"findings": ["topic: bad-signature"]}),
    ],
)
def test_each_condition_is_judged(fault: str, changes: dict) -> None:
    """One thing that is not as it must be, and the verdict names it."""
    verdict = replace(VERDICT, **changes)
    assert verdict.faults == [fault]
    assert not verdict.document()["holds"]
