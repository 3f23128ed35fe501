"""Whether a staged configuration could be carried out, judged where it will stand.

What is always true here: it is read as `run` and `check` read it, drivers constructed and nothing opened. Who the
station is and where its readings are, only a person there changes. No bus is newly asked beyond what it carries.
"""

from collections.abc import Callable
from pathlib import Path

from agent.errors import AsideFailed
from agent.settings import Settings
from config.errors import ConfigFaults


def trouble(read: Callable[[Path], Settings], staged: Path, current: Path) -> tuple[str, str] | None:
    """Say by its code why the staged file is not to be tried, with a detail for the log."""
    try:
        return _found(read, staged, current)
    except AsideFailed as error:
        return "push.not-judged", str(error)


def _found(read: Callable[[Path], Settings], staged: Path, current: Path) -> tuple[str, str] | None:
    try:
        after = read(staged)
    except ConfigFaults as faults:
        return "push.invalid", str(faults)
    try:
        before = read(current)
    except ConfigFaults as faults:
        return "push.base-changed", str(faults)
    if _fixed(before) != _fixed(after):
        return "push.fixed", f"{_fixed(before)} {_fixed(after)}"
    if more := _overloaded(after) - _overloaded(before):
        return "push.overloaded", ", ".join(sorted(more))
    return None


def _fixed(settings: Settings) -> tuple[str, str]:
    config = settings.loaded.config
    return config.gateway.id, config.buffer.path


def _overloaded(settings: Settings) -> set[str]:
    """Name the links that are asked for more than they can carry."""
    return {str(warning.fields["link"]) for warning in settings.warnings if warning.code == "config.bus-overloaded"}
