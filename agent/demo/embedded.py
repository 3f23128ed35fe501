"""The embedded broker's process: amqtt with mutual TLS, until it is killed.

`python -m agent.demo.embedded PORT CA CERT KEY`. amqtt by itself lets a client without a certificate in; this one does
not.
"""

import asyncio
import logging
import ssl
import sys
from typing import Any

from amqtt.broker import Broker


class MutualBroker(Broker):  # type: ignore[misc]  # amqtt has no types
    """An amqtt broker that demands a certificate."""

    @staticmethod
    def _create_ssl_context(listener: Any) -> ssl.SSLContext:
        context: ssl.SSLContext = Broker._create_ssl_context(listener)  # noqa: SLF001 - the one place it is decided
        context.verify_mode = ssl.CERT_REQUIRED
        return context


async def _serve(port: str, ca: str, cert: str, key: str) -> None:
    listener = {"type": "tcp", "bind": f"127.0.0.1:{port}", "ssl": True, "cafile": ca, "certfile": cert, "keyfile": key}
    plugins = {"amqtt.plugins.authentication.AnonymousAuthPlugin": {"allow_anonymous": True}}
    broker = MutualBroker({"listeners": {"default": listener}, "plugins": plugins})
    await broker.start()
    await asyncio.Event().wait()


if __name__ == "__main__":
    logging.basicConfig(level=logging.WARNING)
    asyncio.run(_serve(*sys.argv[1:5]))
