"""What tests of several rooms build on: a real broker with mutual TLS."""

from dataclasses import dataclass

from agent.broker import Endpoint
from agent.demo.brokers import Mosquitto
from agent.demo.certificates import Authority


@dataclass
class Platform:
    """A mosquitto and the authority that it trusts."""

    broker: Mosquitto
    authority: Authority

    def endpoint(self, name: str, **changes: object) -> Endpoint:
        """Give what a client of this name needs to connect."""
        pair = self.authority.issue(name)
        facts = {"ca": str(self.authority.ca), "cert": str(pair.cert), "key": str(pair.key), **changes}
        return Endpoint("localhost", self.broker.port, name, **facts)  # type: ignore[arg-type]
