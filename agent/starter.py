"""The file a station begins with: a few answers, and the comments that lead on from there. Pure.

What is always true here: what is written from sound answers is accepted by `check`; free text is quoted, so that no
answer can be anything but text; the comments are in the technician's language.
"""

import json
import textwrap
from dataclasses import dataclass

from agent.words import Words

WIDTH = 100


@dataclass(frozen=True, slots=True)
class Answers:
    """What was asked. An empty `profile` means none, an empty `url` no platform yet.

    `wire` is serial, tcp or none. `secured` says that the file `ca` is there, so that the uplink can be used at once.
    """

    gateway: str
    name: str
    wire: str
    port: str = ""
    baud: int = 9600
    host: str = ""
    unit: int = 1
    profile: str = ""
    url: str = ""
    ca: str = ""
    secured: bool = False


def file_text(answers: Answers, words: Words) -> str:
    """Write the file."""
    parts = [
        [*_comment("agent.init-head", words)],
        ["gateway:", *_indented(_gateway(answers, words))],
        [*_comment("agent.init-uplinks", words), *_uplinks(answers)],
        [*_comment("agent.init-buffer", words), "buffer:", *_indented(_BUFFER)],
        [*_comment("agent.init-links", words), "links:", *_indented(_link(answers, words))],
    ]
    return "\n\n".join("\n".join(part) for part in parts) + "\n"


_BUFFER = ["path: /var/lib/trambien/buffer.db", "seal_every: 5s", "keep: 60d", "limit: 8GB", "reserve: 500MB"]


def _comment(code: str, words: Words) -> list[str]:
    return [f"# {line}" for line in textwrap.wrap(words.say(code, {}), WIDTH)]


def _indented(lines: list[str], by: str = "  ") -> list[str]:
    return [by + line for line in lines]


def _text(text: str) -> str:
    """Quote a text as YAML 1.2 and JSON both do."""
    return json.dumps(text, ensure_ascii=False)


def _gateway(answers: Answers, words: Words) -> list[str]:
    return [
        *_comment("agent.init-id", words),
        f"id: {_text(answers.gateway)}",
        f"name: {_text(answers.name)}",
        "timezone: Asia/Ho_Chi_Minh",
        f"language: {words.language}",
    ]


def _uplinks(answers: Answers) -> list[str]:
    url = answers.url or "mqtts://iot.example.vn:8883"
    lines = ["uplinks:", "  platform:", f"    url: {_text(url)}"]
    if url.startswith("mqtts:"):
        lines.append(f"    tls: {{ca: {_text(answers.ca or 'tls/ca.pem')}}}")
    usable = answers.url and (answers.secured or not url.startswith("mqtts:"))
    return lines if usable else [f"#{line}" for line in lines]


def _link(answers: Answers, words: Words) -> list[str]:
    if answers.wire == "none":
        device = ["tank:", "  every: 5s", "  points:", "    level: {wave: sine, unit: m}"]
        return ["waves:", "  driver: simulated", "  devices:", *_indented(device, "    ")]
    if answers.wire == "serial":
        line = f"serial: {{port: {_text(answers.port)}, baud: {answers.baud}, parity: none, stop_bits: 1}}"
    else:
        line = f"host: {_text(answers.host)}"
    device = ["device-1:", f"  unit: {answers.unit}", "  every: 5s", *_indented(_points(answers, words))]
    return ["bus-1:", "  driver: modbus", f"  {line}", "  devices:", *_indented(device, "    ")]


def _points(answers: Answers, words: Words) -> list[str]:
    if answers.profile:
        return [f"profile: {_text(answers.profile)}"]
    return [*_comment("agent.init-points", words), "points:", "  value-1: {holding: 0, type: uint16}"]
