"""The embedded broker's process: amqtt with mutual TLS, until it is killed.

`python -m agent.demo.embedded PORT CA CERT KEY`.
"""

import asyncio
import logging
import sys

from amqtt.broker import Broker


async def _serve(port: str, ca: str, cert: str, key: str) -> None:
    listener = {"type": "tcp", "bind": f"127.0.0.1:{port}", "ssl": True, "cafile": ca, "certfile": cert, "keyfile": key}
    plugins = {"amqtt.plugins.authentication.AnonymousAuthPlugin": {"allow_anonymous": True}}
    broker = Broker({"listeners": {"default": listener}, "plugins": plugins})
    await broker.start()
    await asyncio.Event().wait()


if __name__ == "__main__":
    logging.basicConfig(level=logging.WARNING)
    asyncio.run(_serve(*sys.argv[1:5]))
