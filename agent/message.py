"""A message to a broker, and what it takes on the wire.

What is always true here: every message is sent at QoS 1; what it takes is never told too small.
"""

from dataclasses import dataclass

PACKET_HEAD = 16
"""What a PUBLISH is at most larger than its topic and payload, properties aside."""


@dataclass(frozen=True, slots=True)
class Message:
    """One publish: QoS 1 always. `content_type` is told in MQTT 5 (3.3.2.3.9) and lost in 3.1.1."""

    topic: str
    payload: bytes
    retain: bool = False
    content_type: str | None = None

    @property
    def size(self) -> int:
        """What a PUBLISH of it is at most on the wire (MQTT 5, 3.3)."""
        content_type = len(self.content_type.encode()) if self.content_type else 0
        return len(self.topic.encode()) + len(self.payload) + content_type + PACKET_HEAD
