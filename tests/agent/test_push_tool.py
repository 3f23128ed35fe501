"""The operator's commands with wrong input: told in words, with an exit code, and nothing is written."""

from pathlib import Path

import pytest
from typer.testing import CliRunner

from agent.cli.push import app
from agent.errors import Exit

SENT = ("--gateway", "a", "--broker")
SIGNED = ("--key", "k", "--gateway", "a", "--platform", "p", "--out", "out", "--yes")


@pytest.mark.parametrize(
    ("arguments", "code", "told"),
    [
        (("send", "gone", *SENT, "mqtts://localhost:1"), Exit.BUFFER, "gone"),
        (("watch", "gone", *SENT, "mqtts://localhost:1"), Exit.BUFFER, "gone"),
        (("send", "there", *SENT, "localhost"), 2, "mqtts://host:port"),
        (("watch", "there", *SENT, "mqtts://localhost:port"), 2, "mqtts://host:port"),
        (("send", "there", *SENT, "mqtts://localhost:1"), Exit.UNAVAILABLE, "push sign"),
        (("sign", "there", "--base", "gone", *SIGNED), Exit.BUFFER, "gone"),
        (("sign", "gone", "--base", "there", *SIGNED), Exit.BUFFER, "gone"),
        (("sign", "gone.json", *SIGNED), Exit.BUFFER, "gone.json"),
        (("sign", "--add", "gone", *SIGNED), Exit.BUFFER, "gone"),
        (("sign", "--add", "there", *SIGNED), Exit.UNAVAILABLE, "push sign"),
    ],
)
def test_wrong_input_is_no_traceback(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, arguments: tuple[str, ...], code: int, told: str
) -> None:
    """A file that is not there, one that is no push, an address that is none."""
    monkeypatch.chdir(tmp_path)
    Path("there").write_text("junk")
    ended = CliRunner().invoke(app, arguments, env={"LANG": "en_US.UTF-8"})
    assert ended.exit_code == code, ended.output
    assert isinstance(ended.exception, SystemExit)
    assert told in ended.output
    assert not Path("out").exists()
