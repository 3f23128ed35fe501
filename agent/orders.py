"""What may be ordered of the running service about its key: rotate it, note it as enrolled, ask for a certificate.

What is always true here:

- An order is carried out where the key is, in the owner's thread; the tool that gave it sees no private half.
- What a person can mend comes back as the error's code, its fields and the exit code that a command ends with.

The composition root enters.
"""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from agent import failures
from agent.control import Orders
from agent.health import Document, Health
from agent.log import Log
from agent.owner import Owner
from agent.recorder import Recorder
from buffer.custody import Custody
from buffer.errors import BufferFault

_log = Log("orders")

NOT_ENROLLED = "agent.key-not-enrolled"


@dataclass(frozen=True, slots=True)
class KeyOrders:
    """Orders about one device key."""

    custody: Custody
    recorder: Recorder
    owner: Owner
    health: Health

    def table(self) -> Orders:
        """Give what `agent.control` serves."""
        orders = {"key-rotate": self._rotate, "key-enrolled": self._enrol, "key-csr": self._request}
        return {name: _answering(order) for name, order in orders.items()}

    def note(self) -> None:
        """Show which key is in force, and the alarm while the platform cannot know it."""
        kid = self.health.key_id = self.custody.signer.kid.hex()
        self.health.key_error = None if self.custody.enrolled else (NOT_ENROLLED, {"key": kid})

    async def _rotate(self) -> Document:
        await self.recorder.rotate_key()
        self.note()
        return {"key": self.health.key_id}

    async def _enrol(self) -> Document:
        await self.owner.call(self.custody.enrol)
        self.recorder.event("key-enrolled", key=self.custody.signer.kid, urgent=True)
        self.note()
        return {"key": self.health.key_id}

    async def _request(self) -> Document:
        request = await self.owner.call(lambda: self.custody.signer.certificate_request(self.health.gateway))
        return {"request": request.decode()}


def _answering(order: Callable[[], Awaitable[Document]]) -> Callable[[], Awaitable[Document]]:
    async def answer() -> Document:
        try:
            return await order()
        except BufferFault as error:
            _log.error("order-failed", error=error)
            fields = {name: str(value) for name, value in error.fields.items()}
            return {"error": error.code, "fields": fields, "exit": failures.exit_of(error)}

    return answer
