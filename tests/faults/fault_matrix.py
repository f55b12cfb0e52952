"""The fault matrix: all cases, and the table that `docs/faults.md` shows of them."""

import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import fault_cases
import fault_mlflow_cases
import fault_process_cases
import fault_state_cases
from fault_cases import Seen
from fault_project import Project

from cascade.mlflow_store import store

Case = Callable[[Project], Seen]
CASES: tuple[Case, ...] = (
    *fault_cases.CASES, *fault_process_cases.CASES, *fault_mlflow_cases.CASES, *fault_state_cases.CASES,
)  # fmt: skip
QUICK = (
    fault_cases.status_429_once, fault_cases.hang, fault_cases.gone_in_the_middle, fault_cases.wrong_key,
    fault_cases.metric_nan, fault_process_cases.ctrl_c, fault_process_cases.ctrl_c_twice, fault_state_cases.disk_full,
    fault_state_cases.journal_full, fault_state_cases.clock_between_runs, fault_state_cases.damaged_run,
    fault_state_cases.damaged_stage,
)  # fmt: skip
"""Those that `make test` runs; the others run in `make test-all`."""
PAGE = Path(__file__).parents[2] / "docs" / "faults.md"
BEGIN, END = "<!-- matrix: written by `make faults` -->", "<!-- end of the matrix -->"
HEAD = "| when | you see | exit code | kept | how it goes on |\n|---|---|---|---|---|\n"


def name(case: Case) -> str:
    """The fault, as its row names it."""
    return " ".join((case.__doc__ or "").split())


def row(case: Case, folder: Path, empty_store: Path) -> str:
    """Play a case in `folder` and tell what was seen, as a row of the table."""
    with Project(folder, empty_store) as project:
        seen = case(project)
        said = project.tidy(seen.said).replace("|", "\\|")
    quoted = f"`` {said} ``" if "`" in said else f"`{said}`"
    return f"| {name(case)} | {quoted} | {seen.code} | {seen.kept} | {seen.then} |"


def table() -> Iterator[str]:
    """All rows."""
    with tempfile.TemporaryDirectory(prefix="cascade-faults-") as scratch:
        empty = Path(scratch) / "mlflow.db"
        with store.reaching(f"sqlite:///{empty}", "could not be made", ""):
            store.connect(f"sqlite:///{empty}").search_experiments()
        for number, case in enumerate(CASES):
            yield row(case, Path(scratch) / f"{number}", empty)


def shown() -> dict[str, str]:
    """Rows of the page by fault."""
    text = PAGE.read_text("utf-8")
    rows = text.partition(BEGIN)[2].partition(END)[0].strip().splitlines()[2:]
    return {line.split(" | ")[0].removeprefix("| "): line for line in rows}


def write(rows: list[str]) -> None:
    """Put the rows into the page, in place of those that are there."""
    before, _, rest = PAGE.read_text("utf-8").partition(BEGIN)
    body = HEAD + "\n".join(rows)
    PAGE.write_text(f"{before}{BEGIN}\n\n{body}\n\n{END}{rest.partition(END)[2]}", "utf-8")
