"""The live table of stages, and what is being done now.

Invariant: drawing reads only; `tick` comes from many threads and changes plain attributes of one value.
"""

import time
from dataclasses import dataclass, field
from types import TracebackType
from typing import TYPE_CHECKING, TextIO

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.spinner import Spinner
from rich.table import Table
from rich.text import Text

from cascade.cli.watching import opening
from cascade.cli.words import CALLS, HEADINGS, at_most, calls, cells
from cascade.report.figures import clock, dollars
from cascade.spending import Spent

if TYPE_CHECKING:
    from cascade.bounds import Bound
    from cascade.check import Prepared
    from cascade.journal import Journal
    from cascade.lm.meter import Meter
    from cascade.result import Result, StageResult

_STYLES = {"better": "green", "worse": "red", "failed": "red", "new": "bold", "running": "cyan", "skipped": "dim"}
_RIGHT = ("dev", "gain", CALLS, "cost", "time")


@dataclass
class _Now:
    """What is being done."""

    stage: str = ""
    doing: str = ""
    total: int = 0
    done: int = 0
    note: str = ""
    began: float = field(default_factory=time.monotonic)
    before: Spent = field(default_factory=Spent)


class LiveTable:
    """A `Progress` that draws; used as a context, so that the terminal is given back whatever happens.

    Args:
        file: a terminal.
        resumed_from: when the run that goes on was interrupted.
        width: columns; default: the terminal's.
    """

    def __init__(self, file: TextIO, *, resumed_from: str = "", width: int | None = None) -> None:
        self.console = Console(file=file, width=width, highlight=False)
        self._resumed_from = resumed_from
        self._names: list[str] = []
        self._ended: dict[str, StageResult] = {}
        self._now = _Now()
        self._meter: Meter | None = None
        self._cap: int | None = None
        self._spinner = Spinner("dots", style="cyan")
        self._live = Live(console=self.console, get_renderable=self._draw, refresh_per_second=5)

    def __enter__(self) -> "LiveTable":
        """Drawing begins with the run."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Leave the table as it stands."""
        self._now = _Now()
        self._live.stop()

    def begin(self, prepared: "Prepared", journal: "Journal", meter: "Meter", resumed: bool) -> None:
        """Say which run it is, and begin to draw."""
        for sentence in opening(prepared, journal, self._resumed_from, resumed):
            self.console.print(Text(sentence))
        stages = [stage.name for stage in prepared.experiment.stages]
        self._names = [f"{number}-{name}" for number, name in enumerate(["baseline", *stages])]
        self._meter, self._cap = meter, prepared.experiment.budget.lm_calls
        self._live.start()

    def step(self, stage: str, doing: str, total: int = 0) -> None:
        """Show a new bar; a stage's own time and calls go on."""
        now = _Now(stage, doing, total, before=self._meter.spent if self._meter else Spent())
        if stage == self._now.stage:
            now.began, now.before = self._now.began, self._now.before
        self._now = now

    def tick(self, note: str = "") -> None:
        """Move the bar."""
        self._now.done += 1
        if note:
            self._now.note = note

    def stage_begins(self, stage: str, optimizer: str, bound: "Bound") -> None:
        """Show its bar."""
        self.step(stage, f"{optimizer}, {at_most(bound)}")

    def stage_ended(self, result: "StageResult") -> None:
        """Fill the stage's row."""
        self._ended[result.name] = result
        self._now = _Now()

    def tell(self, sentence: str) -> None:
        """Print above the table."""
        self.console.print(Text(sentence))

    def warn(self, sentence: str) -> None:
        """Print above the table."""
        self.console.print(Text(f"warning: {sentence}", style="yellow"))

    def end(self, result: "Result") -> None:  # noqa: ARG002
        """Leave the table as it stands; the command prints the result."""
        self._now = _Now()

    def _draw(self) -> RenderableType:
        table = Table(box=None, padding=(0, 2, 0, 0), header_style="dim")
        for heading in HEADINGS:
            table.add_column(heading, justify="right" if heading in _RIGHT else "left", no_wrap=True)
        for name in self._names:
            table.add_row(*self._row(name))
        return Group(table, *self._doing()) if self._now.stage else table

    def _row(self, name: str) -> list[Text]:
        if name in self._ended:
            shown, spent = cells(self._ended[name]), self._ended[name].spent
        elif name == self._now.stage:
            spent = self._spent() - self._now.before
            running = {"state": "running", "cost": dollars(spent.cost_usd), "time": self._elapsed()}
            shown = dict.fromkeys(HEADINGS, "") | {"stage": name} | running
        else:
            return [Text(name, style="dim")]
        row = {heading: Text(text, style=_STYLES.get(text, "")) for heading, text in shown.items()}
        if shown["state"] != "skipped":
            paid, free = calls(spent)
            row[CALLS] = Text.assemble(paid, (f" {free}" if free else "", "dim"))
        return [row[heading] for heading in HEADINGS]

    def _doing(self) -> list[RenderableType]:
        now = self._now
        cap = f" of {self._cap:,}" if self._cap else ""
        parts: list[RenderableType] = [self._spinner, Text(f"{now.stage}: {now.doing}", style="cyan")]
        if now.total:
            parts += [ProgressBar(now.total, min(now.done, now.total), width=24), Text(f"{now.done}/{now.total}")]
        parts += [Text(f"{calls(self._spent())[0]}{cap} LM calls"), Text(self._elapsed(), style="dim")]
        grid = Table.grid(padding=(0, 2, 0, 0))
        for _ in parts:
            grid.add_column(no_wrap=True)
        grid.add_row(*parts)
        note = Text(f"  {' '.join(now.note.split())}", style="dim", no_wrap=True, overflow="ellipsis")
        return [Text(), grid, note]

    def _spent(self) -> Spent:
        return self._meter.spent if self._meter else Spent()

    def _elapsed(self) -> str:
        return clock(time.monotonic() - self._now.began)
