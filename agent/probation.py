"""Whether a configuration on probation proves itself: the uplink delivers, and nothing that lived is dead. Pure.

What is always true here:

- A device counts if it was alive before and stands in the new configuration under the same link and name.
- Every uplink counts that was connected before and is still there, and the one the push came over; where none of these
  is left, one of the new ones must do. Without any uplink nothing is ever confirmed.
- An uplink delivers when it is connected and a block was acknowledged since the new configuration was taken up.
"""

from collections.abc import Iterator, Mapping

from agent.health import Document


def alive(document: Document) -> tuple[str, ...]:
    """Name the devices that are alive."""
    return tuple(name for name, lives in _devices(document) if lives)


def connected(document: Document) -> tuple[str, ...]:
    """Name the uplinks that are connected."""
    return tuple(name for name, uplink in document["uplinks"].items() if uplink["connected"])


def acknowledged(document: Document) -> dict[str, int]:
    """Count the blocks that each uplink had acknowledged."""
    return {name: sum(uplink["acknowledged"].values()) for name, uplink in document["uplinks"].items()}


def trouble(
    before: tuple[tuple[str, ...], tuple[str, ...], str], baseline: Mapping[str, int], document: Document
) -> tuple[str, str] | None:
    """Say by its code what is not as it must be, and of what. `before`: devices alive, uplinks connected, platform."""
    lived, spoke, platform = before
    there = dict(_devices(document))
    for name in lived:
        if name in there and not there[name]:
            return "push.device-dead", name
    uplinks = document["uplinks"]
    counted = [name for name in dict.fromkeys((*spoke, platform)) if name in uplinks]
    delivering = {name for name in uplinks if _delivers(name, baseline, document)}
    if not (delivering if not counted else delivering.issuperset(counted)):
        silent = [name for name in counted or uplinks if name not in delivering]
        return "push.not-delivered", ", ".join(silent)
    return None


def _delivers(name: str, baseline: Mapping[str, int], document: Document) -> bool:
    now, then = acknowledged(document)[name], baseline.get(name, 0)
    return bool(document["uplinks"][name]["connected"]) and now > (then if now >= then else 0)


def _devices(document: Document) -> Iterator[tuple[str, bool]]:
    for link, facts in document["links"].items():
        for device, state in facts["devices"].items():
            yield f"{link}/{device}", state["alive"] is True
