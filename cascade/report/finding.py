"""Which runs are meant.

Invariant: a damaged journal that was not asked for by name is passed over with a warning of one line.
"""

from collections.abc import Callable, Iterator, Sequence
from itertools import islice
from pathlib import Path

from cascade.errors import CascadeError, ExperimentError
from cascade.journal import Journal
from cascade.report.reading import Run, read

Warn = Callable[[str], None]


def runs(home: Path, experiment: str, warn: Warn) -> Iterator[Run]:
    """Runs of an experiment that can be read, newest first; `warn` is told of the others."""
    found: list[tuple[float, str, Journal]] = []
    for path in _records(home, experiment):
        journal = Journal(path.parent)
        try:
            found.append((float(journal.run.started), path.parent.name, journal))
        except (CascadeError, TypeError, ValueError) as error:
            warn(_passed_over(journal, error))
    for _, _, journal in sorted(found, key=lambda entry: entry[:2], reverse=True):
        try:
            yield read(journal)
        except CascadeError as error:
            warn(_passed_over(journal, error))


def newest(home: Path, experiment: str, count: int, warn: Warn, *, judged: bool = False) -> list[Run]:
    """The newest runs of an experiment that can be read, at most `count`, newest first.

    Args:
        judged: pass over runs that judged no program, too.

    Raises:
        ExperimentError: there is none.
    """
    found = list(islice((run for run in runs(home, experiment, warn) if run.best or not judged), count))
    if not found:
        raise _no_run(home, experiment)
    return found


def named(home: Path, experiment: str, wanted: Sequence[str]) -> list[Run]:
    """Runs by their ids, or by the beginning or the end of them.

    Raises:
        ExperimentError: none has such an id, or several have.
        CascadeError: a journal is damaged.
    """
    ids = sorted(path.parent.name for path in _records(home, experiment))
    if not ids:
        raise _no_run(home, experiment)
    return [read(Journal(home / "runs" / experiment / _only(run, ids, experiment))) for run in wanted]


def _only(run: str, ids: Sequence[str], experiment: str) -> str:
    if run in ids:
        return run
    found = [id_ for id_ in ids if run and (id_.startswith(run) or id_.endswith(run))]
    if len(found) == 1:
        return found[0]
    how_many, known = "several runs" if found else "no run", ", ".join(reversed((found or ids)[-5:]))
    raise ExperimentError(f"Experiment {experiment!r} has {how_many} {run!r}. Give one of: {known}.")


def _records(home: Path, experiment: str) -> list[Path]:
    return sorted((home / "runs" / experiment).glob("*/run.json"))


def _no_run(home: Path, experiment: str) -> ExperimentError:
    others = sorted({path.parent.parent.name for path in (home / "runs").glob("*/*/run.json")} - {experiment})
    known = f" Experiments with runs: {', '.join(others)}." if others else ""
    return ExperimentError(
        f"Experiment {experiment!r} has no run that can be shown.{known} Run it: cascade run {experiment}"
    )


def _passed_over(journal: Journal, error: Exception) -> str:
    return f"run {journal.folder.name} is passed over: {' '.join(str(error).split())}"
