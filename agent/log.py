"""The log: one line an event on standard error, `key=value`, for journald and for people.

A technician reads this through `journalctl -u trambien`; a traceback stands here only for a bug of ours.
Repeated states are logged once when they begin and once when they end, by whoever knows the state.
"""

import logging
import os
import sys
from typing import Final

_LEVEL_PREFIX: Final = {logging.DEBUG: 7, logging.INFO: 6, logging.WARNING: 4, logging.ERROR: 3, logging.CRITICAL: 2}
_FOREIGN: Final = {"pymodbus": logging.CRITICAL, "asyncua": logging.CRITICAL, "paho": logging.ERROR}


class Log:
    """A logger that takes an event and its fields: `log.info("link-up", link="bus-1")`."""

    def __init__(self, name: str) -> None:
        self._logger = logging.getLogger(f"trambien.{name}")

    def info(self, event: str, **fields: object) -> None:
        """Say what is as it should be and worth knowing."""
        self._logger.info("%s", _line(event, fields))

    def warning(self, event: str, **fields: object) -> None:
        """Say what is not as it should be and is being dealt with."""
        self._logger.warning("%s", _line(event, fields))

    def error(self, event: str, **fields: object) -> None:
        """Say what needs a person."""
        self._logger.error("%s", _line(event, fields))

    def bug(self, event: str, **fields: object) -> None:
        """Say what only a programmer can mend, with the traceback of the exception at hand."""
        self._logger.error("%s", _line(event, fields), exc_info=True)  # noqa: LOG014 - called from handlers


def configure(*, verbose: bool = False) -> None:
    """Send the log to standard error; under systemd each line carries its priority, elsewhere its time."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(_JournalFormatter() if "JOURNAL_STREAM" in os.environ else _PlainFormatter())
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(logging.DEBUG if verbose else logging.INFO)
    for name, level in _FOREIGN.items():
        logging.getLogger(name).setLevel(level)


class _PlainFormatter(logging.Formatter):
    def __init__(self) -> None:
        super().__init__("%(asctime)s %(levelname)-7s %(name)s %(message)s", "%H:%M:%S")


class _JournalFormatter(logging.Formatter):
    def __init__(self) -> None:
        super().__init__("%(name)s %(message)s")

    def format(self, record: logging.LogRecord) -> str:
        """Prefix sd-daemon(3)'s priority to every line."""
        prefix = f"<{_LEVEL_PREFIX.get(record.levelno, 6)}>"
        return "\n".join(prefix + line for line in super().format(record).splitlines())


def _line(event: str, fields: dict[str, object]) -> str:
    return " ".join((event, *(f"{name}={_word(value)}" for name, value in fields.items())))


def _word(value: object) -> str:
    text = value.hex() if isinstance(value, bytes) else str(value)
    return repr(text) if not text or any(mark in text for mark in ' "=\n') else text
