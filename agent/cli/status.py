"""`trambien status`: what is alive, late, full or refused, as the running service knows it."""

import json
import math
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.table import Table

from agent import control, failures
from agent.cli.site import load_site
from agent.errors import NotRunning
from agent.health import Document
from agent.service import DEFAULT_CONFIG
from agent.words import Words

NS_PER_S = 10**9


def command(
    config: Annotated[Path, typer.Option("--config", "-c", help="The configuration file.")] = DEFAULT_CONFIG,
    as_json: Annotated[bool, typer.Option("--json", help="Print the whole state as JSON.")] = False,
) -> None:
    """Show what the running station knows of itself."""
    site = load_site(config)
    words = site.words
    try:
        state = control.ask(control.socket_path(site.buffer), "status")
    except NotRunning as error:
        raise typer.Exit(failures.tell(error, words)) from None
    if as_json:
        print(json.dumps(state, ensure_ascii=False))
    else:
        show(state, words, Console())


def show(state: Document, words: Words, console: Console) -> None:
    """Print a state as tables."""
    console.print(words.say("agent.status-head", {**state, "uptime": _duration(state["uptime_s"])}), markup=False)
    console.print(_clock(state["clock"], words), markup=False)
    for trouble in filter(None, (state["buffer"]["error"], state["key_error"], state["config_error"])):
        console.print(_trouble(trouble, words), style="red", markup=False)
    console.print(_streams(state, words), _links(state, words), _uplinks(state, words), _standings(state, words))
    for name, link in state["links"].items():
        for parked in link["parked"]:
            points = ", ".join(parked["points"])
            facts = {
                **parked,
                "device": f"{name}/{parked['device']}",
                "points": points,
                "why": words.say(parked["reason"], {}),
            }
            console.print(words.say("agent.status-parked", facts), markup=False)


def _clock(clock: Document, words: Words) -> str:
    codes = {
        "synchronised": "agent.clock-synchronised",
        "holdover": "agent.clock-holdover",
        "unsynchronised": "agent.clock-unsynchronised",
    }
    code = codes.get(clock.get("quality", ""), "agent.clock-unknown")
    error_ns = clock.get("max_error_ns")
    error = "?" if error_ns is None else _span(error_ns / NS_PER_S)
    return words.say(code, {"source": clock.get("source", "?"), "error": error})


def _span(seconds: float) -> str:
    """Round up: what is shown is a bound."""
    if seconds < 1:
        return f"{math.ceil(seconds * 1000)} ms"
    return f"{math.ceil(seconds * 10) / 10:.1f} s" if seconds < 60 else _duration(1.05 * seconds)


def _streams(state: Document, words: Words) -> Table:
    table = _table(words, "stream", "sealed", "held", "evicted", "damaged", "readings", "missed", "dropped")
    for name, stream in state["streams"].items():
        figures = ("sealed", "held", "evicted", "damaged", "readings", "ticks_missed", "dropped")
        table.add_row(name, *(str(stream[figure]) for figure in figures))
    return table


def _links(state: Document, words: Words) -> Table:
    table = _table(words, "link", "device", "state", "good", "faults", "missed", "late", "last", "trouble")
    for name, link in state["links"].items():
        for device, facts in link["devices"].items():
            trouble = link["error"] or facts["error"]
            table.add_row(
                name,
                device,
                words.say(_state_code(link, facts), {}),
                *(str(facts[figure]) for figure in ("good", "faults", "missed")),
                "" if facts["late_ms"]["p99"] is None else f"{facts['late_ms']['p99']:.0f} ms",
                _ago(facts["last_boot_ns"], state["boot_ns"]),
                _trouble(trouble, words),
            )
    return table


def _uplinks(state: Document, words: Words) -> Table:
    table = _table(words, "uplink", "state", "acknowledged", "pending", "lost", "sent", "trouble")
    for name, uplink in state["uplinks"].items():
        connected = "agent.status-connected" if uplink["connected"] else "agent.status-disconnected"
        sums = (str(sum(uplink[figure].values())) for figure in ("acknowledged", "pending", "lost"))
        trouble = _trouble(uplink["error"] or uplink["refusal"], words)
        table.add_row(name, words.say(connected, {}), *sums, _megabytes(uplink["bytes_sent"]), trouble)
    return table


def _standings(state: Document, words: Words) -> Table:
    """Show what waits for each platform, what a day costs, and how long its certificate lasts."""
    table = _table(words, "uplink", "backlog", "oldest", "day", "certificate")
    for name, uplink in state["uplinks"].items():
        backlog, day = (_megabytes(uplink[figure]) for figure in ("backlog_bytes", "bytes_day"))
        table.add_row(name, backlog, _oldest(uplink["oldest"], words), day, _certificate(uplink, words))
    return table


def _megabytes(size: int) -> str:
    return f"{size / 1e6:.1f} MB"


def _oldest(oldest: Document | None, words: Words) -> str:
    """Say how long the oldest block waits; where only the wall clocks know, that it is about so long."""
    if oldest is None:
        return ""
    if oldest["age_s"] is None:
        return words.say("agent.status-age-unknown", {})
    return ("" if oldest["by"] == "boot" else "≈ ") + _duration(oldest["age_s"])


def _certificate(uplink: Document, words: Words) -> str:
    """Say how many days are left; where the clock is worth nothing, the day of its end."""
    until, days = uplink["certificate_until"], uplink["certificate_days"]
    if days is None:
        return until[:10] if until else ""
    return words.say("agent.status-days", {"days": days}) if days >= 0 else words.say("agent.status-expired", {})


def _table(words: Words, *columns: str) -> Table:
    table = Table(box=None, header_style="bold", pad_edge=False)
    for column in columns:
        table.add_column(words.say(f"agent.status-{column}", {}))
    return table


def _state_code(link: Document, device: Document) -> str:
    if link["up"] is False:
        return "agent.status-down"
    return {True: "agent.status-alive", False: "agent.status-silent", None: "agent.status-waiting"}[device["alive"]]


def _trouble(trouble: dict[str, Any] | None, words: Words) -> str:
    return "" if trouble is None else words.say(trouble["code"], trouble)


def _ago(then_ns: int | None, now_ns: int) -> str:
    return "" if then_ns is None else _duration((now_ns - then_ns) / NS_PER_S)


def _duration(seconds: float) -> str:
    if seconds < 60:
        return f"{seconds:.1f} s"
    minutes, hours, days = seconds // 60, seconds // 3600, seconds // 86400
    if seconds < 3600:
        return f"{minutes:.0f} min"
    return f"{hours:.0f} h" if seconds < 2 * 86400 else f"{days:.0f} d"
