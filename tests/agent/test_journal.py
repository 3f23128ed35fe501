"""The journal's files: what a technician writes between two steps of a push stays."""

from pathlib import Path

from operators import BEFORE, GATEWAY, NOW, judge, push, standing

from agent.journal import Hold
from config.push import Accepted


def judged(config: Path) -> tuple[Hold, Accepted]:
    """Give a station's journal and a push that is judged good over the file as it stands."""
    config.write_bytes(BEFORE)
    hold = Hold(config, "boot", lambda: 0)
    verdict = judge(push(), standing(), hold.state(GATEWAY, "province"), NOW)
    assert isinstance(verdict, Accepted)
    return hold, verdict


def test_an_edit_between_the_judgement_and_its_note_is_not_written_over(tmp_path: Path) -> None:
    """What was judged was the file as it stood then."""
    hold, accepted = judged(tmp_path / "gateway.yaml")
    hold.config.write_bytes(BEFORE + b"# mine\n")
    hold.verified(accepted, "province")
    assert not hold.apply((), ())
    assert hold.config.read_bytes() == BEFORE + b"# mine\n"
    assert hold.journal.flight is not None
    assert (hold.journal.flight.state, hold.journal.flight.reason) == ("rejected", "push.base-changed")


def test_a_file_added_to_links_d_before_the_push_is_applied_is_an_edit(tmp_path: Path) -> None:
    """The main file is as it was, the configuration is not."""
    hold, accepted = judged(tmp_path / "gateway.yaml")
    hold.verified(accepted, "province")
    (tmp_path / "links.d").mkdir()
    (tmp_path / "links.d" / "gas.yaml").write_text("links: {}\n")
    assert not hold.apply((), ())
    assert hold.config.read_bytes() == BEFORE


def test_without_an_edit_it_is_applied(tmp_path: Path) -> None:
    """The other two can fail."""
    hold, accepted = judged(tmp_path / "gateway.yaml")
    hold.verified(accepted, "province")
    assert hold.apply((), ())
    assert hold.config.read_bytes() == accepted.push.configuration
