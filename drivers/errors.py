"""What can go wrong on a wire, named by what must happen next. The poller is who reacts.

| error | the poller then |
|---|---|
| `LinkDown` | closes the link, backs off, gives fault frames for every due tick, logs once down and once back |
| `NoAnswer` | gives a fault frame; probes this device more rarely until it answers; every other keeps its schedule |
| `BadAnswer` | gives a fault frame and stays open |
| `Misfit` | parks the part of the device it names; the rest goes on |
| `WriteRefused` | reports it to whoever gave the command; nothing went to the wire |

Every error has a `code` (a key into config/locale), `fields` for its words, and the StatusCode its fault frames carry.
"""

from typing import ClassVar

from buffer import status


class DriverError(Exception):
    """What a driver may raise. `fields` are the words the message of `code` needs."""

    status: ClassVar[int] = status.BAD_COMMUNICATION_ERROR

    def __init__(self, code: str, **fields: object) -> None:
        self.code = code
        self.fields = fields
        super().__init__(code, fields)

    def __str__(self) -> str:
        """Give the code and its fields, for the log of a developer; a person reads the words of config/locale."""
        return " ".join((self.code, *(f"{name}={value}" for name, value in self.fields.items())))


class LinkDown(DriverError):
    """The wire itself is gone: refused, unplugged, reset, denied."""

    status = status.BAD_NOT_CONNECTED


class NoAnswer(DriverError):
    """The device stayed silent while the link is up."""

    status = status.BAD_TIMEOUT


class BadAnswer(DriverError):
    """The device answered with something that cannot be an answer."""

    status = status.BAD_COMMUNICATION_ERROR


class Misfit(DriverError):
    """The device has no such register or node."""

    status = status.BAD_NODE_ID_UNKNOWN


class WriteRefused(DriverError):
    """What was to be written may not or cannot be; nothing was sent."""

    status = status.BAD_OUT_OF_RANGE
