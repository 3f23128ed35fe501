"""What can go wrong above the floors, named by what must happen next, and the exit code each ends a command with.

Every error carries a code (a key into config/locale) and the fields its words need; `agent.words` renders them.
"""

from enum import IntEnum


class Exit(IntEnum):
    """The exit codes of the command; the README's table says the same, and a test compares them."""

    OK = 0
    UNPROVEN = 1
    """Verification found something unexplained, a demonstration's verdict does not hold, or a bug of ours."""
    UNREADABLE = 2
    """The source to verify cannot be read, or the command line is wrong."""
    UNAVAILABLE = 69
    """The service, a broker or a program that the command needs is not there."""
    BUFFER = 74
    """The buffer cannot be read or written, or a newer Trambien made it."""
    BUSY = 75
    """Another process holds the buffer or the port."""
    PERMISSION = 77
    """A key file or a directory has the wrong owner or permissions, or the key may not be changed."""
    CONFIG = 78
    """The configuration has faults; systemd does not restart after it."""


class AgentError(Exception):
    """An end of the command that a person can mend."""

    exit = Exit.UNAVAILABLE

    def __init__(self, code: str, **fields: object) -> None:
        self.code = code
        self.fields = fields
        super().__init__(code, fields)

    def __str__(self) -> str:
        """Give the code and its fields, for the log; a person reads the words of config/locale."""
        return " ".join((self.code, *(f"{name}={value}" for name, value in self.fields.items())))


class BrokerDown(AgentError):
    """The broker cannot be reached or the connection was lost: back off and try again."""


class BrokerRefused(AgentError):
    """The broker, or our trust in it, said no: raise an alarm, try again slowly, lose nothing."""


class NotRunning(AgentError):
    """The service does not answer on its control socket."""


class DirectoryRefused(AgentError):
    """The directory of the buffer cannot be made."""

    exit = Exit.BUFFER


class PortBusy(AgentError):
    """A port that the command was told to use is taken."""

    exit = Exit.BUSY


class AsideFailed(AgentError):
    """A process that was to do something for this one died, said something else, or took too long: try again."""


class FileThere(AgentError):
    """A file that the command was to write is there already, and stays as it is."""

    exit = Exit.BUSY
