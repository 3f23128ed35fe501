"""How a command ends when it cannot go on: one clear line, how to mend it, and its exit code. Never a traceback.

A new error that a person can mend gets its words in config/locale and its exit code here.
"""

import sys

from agent.errors import AgentError, Exit
from agent.words import Words
from buffer.errors import (
    BufferCorrupt,
    BufferFault,
    BufferForeign,
    BufferLocked,
    BufferNewer,
    BufferUnreadable,
    ChainBroken,
    CommitFailed,
    CredentialRefused,
    EnrolFirst,
    KeyFixed,
    KeyRefused,
    StoreFull,
)

Mendable = (AgentError, BufferFault)
"""What a command may end with and a person can mend."""

_EXITS: dict[type[BufferFault], Exit] = {
    BufferLocked: Exit.BUSY,
    BufferNewer: Exit.BUFFER,
    BufferUnreadable: Exit.BUFFER,
    BufferCorrupt: Exit.BUFFER,
    BufferForeign: Exit.BUFFER,
    ChainBroken: Exit.BUFFER,
    CommitFailed: Exit.BUFFER,
    StoreFull: Exit.BUFFER,
    CredentialRefused: Exit.PERMISSION,
    EnrolFirst: Exit.PERMISSION,
    KeyFixed: Exit.PERMISSION,
    KeyRefused: Exit.PERMISSION,
}


def exit_of(error: AgentError | BufferFault) -> Exit:
    """Give the exit code that an error ends a command with."""
    return error.exit if isinstance(error, AgentError) else _EXITS[type(error)]


def first(ended: BaseExceptionGroup[AgentError | BufferFault]) -> AgentError | BufferFault:
    """Give the first error of a group, however deep it stands."""
    leaf = ended.exceptions[0]
    return first(leaf) if isinstance(leaf, BaseExceptionGroup) else leaf


def tell(error: AgentError | BufferFault, words: Words) -> Exit:
    """Say on standard error what is wrong and how to mend it; give the exit code."""
    sys.stderr.write(f"trambien: {words.say(error.code, error.fields)}\n")
    if hint := words.hint(error.code, error.fields):
        sys.stderr.write(f"  → {hint}\n")
    return exit_of(error)
