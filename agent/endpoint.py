"""Where a broker is, and how it is to be trusted.

What is always true here: an endpoint is only facts; its name is resolved, and its files are read, at each connection.
"""

from dataclasses import dataclass
from urllib.parse import urlsplit

KEEP_ALIVE_S = 13
"""The MQTT library needs two of them to find a dead connection on which nothing is sent."""
MQTT_DEFAULT_PORTS = {"mqtt": 1883, "mqtts": 8883}


@dataclass(frozen=True, slots=True)
class Endpoint:
    """Where a broker is and how it is to be trusted. `tls` needs `ca`; certificate and key come together."""

    host: str
    port: int
    client_id: str
    ca: str | None = None
    cert: str | None = None
    key: str | None = None
    protocol: int = 5
    window: int = 64
    keep_alive_s: int = KEEP_ALIVE_S
    max_packet: int | None = None
    """The largest packet that the broker may send us, in bytes (MQTT 5, 3.1.2.11.4)."""

    @property
    def address(self) -> str:
        """Give host:port for messages."""
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"

    @property
    def files(self) -> tuple[str | None, ...]:
        """Give the files that TLS is made from."""
        return self.ca, self.cert, self.key


def split_url(url: str) -> tuple[str, str, int]:
    """Split `mqtts://host:port` into scheme, host and port."""
    parts = urlsplit(url)
    return parts.scheme, parts.hostname or "", parts.port or MQTT_DEFAULT_PORTS[parts.scheme]
