"""`trambien init`: a few questions, and a commented file that `check` accepts.

What is always true here:

- A file that is there is never touched; nothing is written before the last answer.
- Every question has a flag. Where nobody can be asked, or with `--yes`, what has no flag takes its default.
- Exit 0 with the file in place; 1 where somebody broke off; 75 where a file is there; 2 where a flag makes no sense.
"""

import os
import platform
import re
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Annotated
from urllib.parse import urlsplit

import typer

from agent import failures, faults
from agent.certificate import ends_of
from agent.clock import SystemClock
from agent.errors import DirectoryRefused, Exit, FileThere
from agent.reading import read
from agent.starter import Answers, file_text
from agent.unwise import STABLE_NAMES
from agent.words import Language, Words, environment_language
from config import profile
from config.errors import ConfigFaults
from config.model import NAME_PATTERN
from config.raw import read_bytes
from config.source import parse

WIRES = ("serial", "tcp", "none")

Judge = Callable[[str], bool]


def command(
    file: Annotated[Path, typer.Argument(help="The file to write.")] = Path("gateway.yaml"),
    language: Annotated[Language | None, typer.Option(help="vi or en.")] = None,
    gateway: Annotated[str | None, typer.Option("--id", help="The station's id.")] = None,
    name: Annotated[str | None, typer.Option(help="What people call it.")] = None,
    wire: Annotated[str | None, typer.Option(help="serial, tcp, or none (simulated).")] = None,
    port: Annotated[str | None, typer.Option(help="The serial port.")] = None,
    baud: Annotated[str | None, typer.Option(help="Its speed.")] = None,
    host: Annotated[str | None, typer.Option(help="The address of a Modbus TCP instrument.")] = None,
    unit: Annotated[str | None, typer.Option(help="The instrument's Modbus unit id.")] = None,
    maker: Annotated[str | None, typer.Option("--profile", help="The instrument's profile, or empty.")] = None,
    url: Annotated[str | None, typer.Option(help="The platform, mqtts://host:port, or empty.")] = None,
    ca: Annotated[str | None, typer.Option(help="The certificate that the platform's operator gave you.")] = None,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Ask nothing: take the defaults.")] = False,
) -> None:
    """Write a commented configuration file after a few questions; never over one that is there."""
    words = Words(language or environment_language(os.environ))
    if file.exists():
        raise typer.Exit(failures.tell(FileThere("agent.init-there", file=file), words))
    asking = _Asking(words, ask=not yes and sys.stdin.isatty())
    gateway = asking.of("id", gateway, _host_name(), lambda text: re.fullmatch(NAME_PATTERN, text) is not None)
    name = asking.of("name", name, gateway, str.isprintable)
    wire = asking.of("wire", wire, "serial", WIRES.__contains__)
    facts: dict[str, str] = {"port": "", "baud": "9600", "host": "", "unit": "1", "profile": "", "ca": ""}
    if wire == "serial":
        facts["port"] = asking.of("port", port, _first_port(), lambda text: text.isprintable() and text != "")
        facts["baud"] = asking.of("baud", baud, "9600", lambda text: _number(text, 50, 4_000_000))
    if wire == "tcp":
        facts["host"] = asking.of("host", host, "192.168.1.10", _is_host)
    if wire != "none":
        facts["unit"] = asking.of("unit", unit, "1", lambda text: _number(text, 1, 247))
        facts["profile"] = asking.of("profile", maker, "", lambda text: text in ("", *_modbus_profiles(file.parent)))
    url = asking.of("url", url, "", _is_url)
    if url.startswith("mqtts:"):
        facts["ca"] = asking.of("ca", ca, "tls/ca.pem", lambda text: text.isprintable() and text != "")
    secured = bool(facts["ca"]) and ends_of((file.parent / facts["ca"]).absolute()) is not None
    answers = Answers(
        gateway,
        name,
        wire,
        facts["port"],
        int(facts["baud"]),
        facts["host"],
        int(facts["unit"]),
        facts["profile"],
        url,
        facts["ca"],
        secured,
    )
    raise typer.Exit(_write(file, file_text(answers, words), words))


def _write(file: Path, text: str, words: Words) -> Exit:
    """Write the file where there is none, and judge it as `check` does."""
    try:
        with file.open("x", encoding="utf-8") as stream:
            stream.write(text)
    except FileExistsError:
        return failures.tell(FileThere("agent.init-there", file=file), words)
    except OSError as error:
        refused = DirectoryRefused("agent.init-refused", file=file, reason=error.strerror)
        return failures.tell(refused, words)
    try:
        read(file, SystemClock())
    except ConfigFaults as found:
        print(faults.text(found, words))
        return Exit.CONFIG
    print(words.say("agent.init-written", {"file": file}))
    return Exit.OK


class _Asking:
    """Asks for what no flag gave."""

    def __init__(self, words: Words, *, ask: bool) -> None:
        self._words = words
        self._ask = ask

    def of(self, what: str, given: str | None, default: str, judge: Judge) -> str:
        """Give an answer that makes sense. A flag that makes none ends it with 2, and says what was asked."""
        question = self._words.say(f"agent.init-ask-{what}", {})
        if given is not None:
            if judge(given):
                return given
            refusal = self._words.say("agent.init-flag", {"what": what, "given": given})
            print(f"{refusal}\n  → {question}", file=sys.stderr)
            raise typer.Exit(Exit.UNREADABLE)
        while self._ask:
            answer = str(typer.prompt(question, default=default, show_default=bool(default))).strip()
            if judge(answer):
                return answer
            print(self._words.say("agent.init-again", {}))
        return default


def _host_name() -> str:
    plain = re.sub(r"[^a-z0-9_-]+", "-", platform.node().lower()).strip("-_")[:63]
    return plain or "station-1"


def _first_port() -> str:
    try:
        return str(min(STABLE_NAMES.iterdir()))
    except (OSError, ValueError):
        return f"{STABLE_NAMES}/usb-adapter-port0"


def _number(text: str, low: int, high: int) -> bool:
    return text.isascii() and text.isdecimal() and low <= int(text) <= high


def _is_host(text: str) -> bool:
    return re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9.-]*|[0-9a-fA-F:]*:[0-9a-fA-F:.]+", text) is not None and (
        text.count(":") != 1
    )


def _is_url(text: str) -> bool:
    if not text:
        return True
    try:
        url = urlsplit(text)
        return url.scheme in ("mqtt", "mqtts") and bool(url.hostname) and url.port is not None and not url.path
    except ValueError:
        return False


def _modbus_profiles(beside: Path) -> list[str]:
    """List the profiles that an instrument on a Modbus wire may have."""
    found = []
    for name in profile.names(beside):
        files = [folder / f"{name}.yaml" for folder in (beside / "profiles", profile.shipped())]
        value = parse(read_bytes(next(file for file in files if file.is_file())), files[0]).value
        if isinstance(value, dict) and value.get("driver") == "modbus":
            found.append(name)
    return found
