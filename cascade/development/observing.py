"""An experiment's program on rows of dev, watched call by call.

Invariant: calls pass the ledger and the experiment's budget like those of a run; nothing is judged and nothing kept.
"""

import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from cascade.check import Prepared, build_program
from cascade.dataset import Split
from cascade.errors import BudgetSpent, CascadeError, DatasetError, StepFailed
from cascade.production.promoting.scoring import scoring
from cascade.progress import Progress
from cascade.redaction import told
from cascade.tracing import Trace, trace
from cascade.warm import brought


@dataclass(frozen=True)
class Observed:
    """What the program did.

    Args:
        ids: of the rows.
        errors: one line by row, of those that failed.
    """

    trace: Trace
    ids: tuple[str, ...]
    errors: dict[str, str]


def observe(prepared: Prepared, ids: Sequence[str], progress: Progress, *, fresh: bool = False) -> Observed:
    """Run the program, or that from which the experiment begins, on rows of dev, one after the other.

    Args:
        ids: of the rows.
        fresh: ask the models again, also for what the ledger knows.

    Raises:
        DatasetError: no such row.
        CascadeError: the budget does not suffice.
    """
    split = chosen(prepared.data.dev, ids)
    errors: dict[str, str] = {}
    with scoring(prepared, progress, salt=f"observed {time.time_ns()}" if fresh else ""):
        began = brought(prepared.experiment)
        program = began.module if began else build_program(prepared.experiment)
        progress.step("program", split.name, len(split))
        with trace(program) as found:
            for id_, example in zip(split.ids, split.examples(), strict=True):
                if error := _asked(program, example):
                    errors[id_] = error
                progress.tick()
    return Observed(found, split.ids, errors)


def chosen(split: Split, ids: Sequence[str]) -> Split:
    """The rows of these ids; raises `DatasetError` where one is not there."""
    if missing := [id_ for id_ in ids if id_ not in split.ids]:
        some = ", ".join(map(repr, split.ids[:3]))
        raise DatasetError(f"{split.name} has no row {missing[0]!r}. It has {len(split)}: {some}, …")
    return split.where([id_ in ids for id_ in split.ids])


def _asked(program: Any, example: Any) -> str:
    """What failed, in a line; "" if nothing did."""
    try:
        program(**example.inputs())
    except BudgetSpent as error:
        raise CascadeError(f"The program was not watched to its end: {error}. Raise the experiment's budget.") from None
    except (Exception, SystemExit) as error:
        if isinstance(error, CascadeError) and not isinstance(error, StepFailed):
            raise
        return told(error)
    return ""
