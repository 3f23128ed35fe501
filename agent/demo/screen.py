"""What the demonstration shows while it runs: a live table in a terminal, plain lines elsewhere."""

import sys
import time
from collections import deque
from collections.abc import Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from types import TracebackType
from typing import Self

from rich.console import Console, Group
from rich.live import Live
from rich.panel import Panel
from rich.table import Table
from rich.text import Text

from agent.words import Words

SHOWN_STEPS = 12


@dataclass(slots=True)
class Scene:
    """The figures on the screen."""

    broker: str = ""
    broker_up: bool = False
    agent_up: bool = False
    sealed: int = 0
    pending: int = 0
    proven: int = 0
    served: Mapping[str, int] = field(default_factory=dict)
    delivered: Mapping[str, int] = field(default_factory=dict)


class Screen(AbstractContextManager["Screen"]):
    """Shows the scene and the steps. Everything goes to standard error, so that standard output holds the verdict."""

    def __init__(self, words: Words) -> None:
        self._words = words
        self._console = Console(file=sys.stderr, highlight=False)
        self._steps: deque[tuple[float, str]] = deque(maxlen=SHOWN_STEPS)
        self._began_s = time.monotonic()
        self.scene = Scene()
        self._live = Live(console=self._console, get_renderable=self._render, refresh_per_second=4)

    def __enter__(self) -> Self:
        """Begin to show; without a terminal only the steps are written."""
        if self._console.is_terminal:
            self._live.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Leave the last picture standing."""
        if self._console.is_terminal:
            self._live.stop()

    def step(self, code: str, **fields: object) -> None:
        """Tell what happens now."""
        elapsed_s = time.monotonic() - self._began_s
        text = self._words.say(code, fields)
        self._steps.append((elapsed_s, text))
        if not self._console.is_terminal:
            self._console.print(f"{elapsed_s:6.1f} s  {text}", soft_wrap=True, markup=False)

    def push(self, state: str, reason: str) -> None:
        """Tell how far a configuration push has come at the station, and why no further."""
        words = self._words.say(f"agent.push-{state}", {})
        self.step("agent.demo-step-push", state=words, reason=f": {self._words.say(reason, {})}" if reason else "")

    def _render(self) -> Panel:
        scene, say = self.scene, self._words.say
        state = Table.grid(padding=(0, 3))
        state.add_row(
            _lamp(scene.broker, up=scene.broker_up),
            _lamp(say("agent.demo-agent", {}), up=scene.agent_up),
            Text(say("agent.demo-figures", {"sealed": scene.sealed, "pending": scene.pending, "proven": scene.proven})),
        )
        table = Table(box=None, pad_edge=False, header_style="dim")
        for column in ("instrument", "served", "delivered"):
            table.add_column(say(f"agent.demo-{column}", {}), justify="left" if column == "instrument" else "right")
        for name, served in scene.served.items():
            table.add_row(name, str(served), str(scene.delivered.get(name, 0)))
        steps = Text("\n").join(Text(f"{at:6.1f} s  {text}") for at, text in self._steps)
        return Panel(Group(state, Text(), table, Text(), steps), title="Trambien", border_style="cyan")


def _lamp(name: str, *, up: bool) -> Text:
    return Text.assemble(("● ", "green" if up else "red"), name)
