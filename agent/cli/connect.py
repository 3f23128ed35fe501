"""`trambien check --connect`: which instruments answer, how fast, and with what.

What is always true here:

- Nothing is written to any instrument.
- While the service runs it holds the ports, and nobody asks beside it: where it runs this very configuration, what it
  knows is told; where it runs another, the command ends with 75.
- Exit 0 where every device answers, 69 where one does not.
"""

import asyncio
from collections.abc import Collection
from dataclasses import asdict
from pathlib import Path
from typing import Any

from agent import control
from agent.connect import Look, look
from agent.errors import Exit, NotRunning, PortBusy
from agent.health import Document, trouble_document
from agent.settings import Settings
from agent.words import Words

WITHIN_S = 15.0
SHOWN = 8
"""Values of a device that are shown to a person."""
_NO_WORD = "agent.connect-no-word"


def connect(settings: Settings, within_s: float = WITHIN_S) -> Document:
    """Look at every device. Raises PortBusy while the service runs another configuration."""
    try:
        state = control.ask(control.socket_path(Path(settings.loaded.config.buffer.path)), "status")
    except NotRunning:
        looks = asyncio.run(look(settings.instruments, within_s))
        return {"through": "links", "devices": [_document(one) for one in looks]}
    if state["config"] != settings.loaded.digest.hex():
        raise PortBusy("agent.connect-busy", gateway=state["gateway"])
    return {"through": "service", "devices": list(_of_service(state, settings.instruments))}


def exit_of(found: Document) -> Exit:
    """Say how the command ends."""
    return Exit.OK if all(device["answers"] for device in found["devices"]) else Exit.UNAVAILABLE


def _document(one: Look) -> Document:
    return {
        "link": one.link,
        "device": one.device,
        "answers": one.answers,
        "seconds": one.seconds and round(one.seconds, 3),
        "values": [asdict(value) for value in one.values],
        "error": trouble_document(one.trouble),
    }


def _of_service(state: Document, instruments: Collection[str]) -> Any:
    for name, link in state["links"].items():
        if name not in instruments:
            continue
        for device, facts in link["devices"].items():
            error = None if facts["alive"] else link["error"] or facts["error"] or {"code": _NO_WORD}
            answers = bool(facts["alive"]) and bool(link["up"])
            yield {
                "link": name,
                "device": device,
                "answers": answers,
                "seconds": None,
                "values": [],
                "error": error or (None if answers else link["error"]),
            }


def text(found: Document, words: Words) -> str:
    """Say it to a person."""
    devices = found["devices"]
    lines = [words.say("agent.connect-service", {})] if found["through"] == "service" else []
    for device in devices:
        lines += _lines(device, words)
    count = {"answering": sum(device["answers"] for device in devices), "count": len(devices)}
    return "\n".join([*lines, words.say("agent.connect-count", count)])


def _lines(device: Document, words: Words) -> list[str]:
    where = f"{device['link']}/{device['device']}"
    trouble = device["error"]
    lines = []
    if device["answers"]:
        code = "agent.connect-answers" if device["seconds"] is not None else "agent.connect-alive"
        lines.append(words.say(code, {"device": where, "ms": round((device["seconds"] or 0) * 1e3)}))
        lines += [f"    {_value(value)}" for value in device["values"][:SHOWN]]
        if (more := len(device["values"]) - SHOWN) > 0:
            lines.append(f"    {words.say('agent.connect-more', {'count': more})}")
    else:
        lines.append(words.say("agent.connect-fails", {"device": where}))
    if trouble:
        lines.append(f"    {words.say(trouble['code'], trouble)}")
        lines += [f"    → {hint}" for hint in [words.hint(trouble["code"], trouble)] if hint]
    return lines


def _value(value: Document) -> str:
    shown = "-" if value["value"] is None else f"{value['value']} {value['unit']}".rstrip()
    return f"{value['point']} = {shown}" + ("" if value["status"] == "Good" else f"  [{value['status']}]")
