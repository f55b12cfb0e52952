"""`cascade list`: what there is to run, and what came of it last time.

Invariant: nothing is asked of MLflow; what is shown stands in `experiments/`, in journals and in promotion logs here.
"""

from pathlib import Path
from typing import Any

from cascade.cli.parts import Json, experiment_named, print_json, stdout_kept
from cascade.cli.tables import print_warning
from cascade.errors import CascadeError


def list_experiments(as_json: Json = False) -> None:
    """List the experiments and how each one's last run ended.

    Example: cascade list --json
    """
    from cascade.settings import load_settings

    with stdout_kept():
        settings = load_settings()
        rows = experiments(settings.project, settings.home)
    if as_json:
        print_json(rows)
    elif rows:
        _print_table(rows)
    else:
        print(f"There is no experiment in {settings.project / 'experiments'}. Add experiments/NAME.py.")


def experiments(project: Path, home: Path) -> list[dict[str, Any]]:
    """A row an experiment: `name`, `hypothesis`, `dataset`, `stages`, `last_run` (None if never run) and `error`.

    Beside them `champion`: the version that serves, or "".
    """
    from cascade.discover import names

    return [
        {**_definition(name, project), "last_run": _last_run(home, name), "champion": _champion(home, name)}
        for name in names(project)
    ]


def _definition(name: str, project: Path) -> dict[str, Any]:
    row: dict[str, Any] = {"name": name, "hypothesis": "", "dataset": "", "stages": [], "error": ""}
    try:
        experiment = experiment_named(name, project)
    except CascadeError as error:
        return {**row, "error": " ".join(str(error).split())}
    stages = [stage.name for stage in experiment.stages]
    first_line = experiment.hypothesis.partition("\n")[0]
    return {**row, "hypothesis": first_line, "dataset": experiment.dataset.name, "stages": stages}


def _last_run(home: Path, name: str) -> dict[str, Any] | None:
    from cascade.journal import journals
    from cascade.report.reading import best_stage, status

    for journal in journals(home, name, print_warning):
        try:
            run, best = journal.run, best_stage(journal.stages())
            return {
                "id": run.id,
                "status": status(run),
                "best_stage": best.folder if best else "",
                "best_dev_score": best.metrics.get("dev_score") if best else None,
                "test_score": run.metrics.get("test_score"),
                "proven": run.proven,
            }
        except CascadeError as error:
            print_warning(f"run {journal.folder.name} is passed over: {error}")
    return None


def _champion(home: Path, name: str) -> str:
    from cascade.production.promoting import PromotionLog, standing

    try:
        return standing(PromotionLog.of(home, name).entries()).champion
    except CascadeError as error:
        print_warning(str(error))
        return ""


def _print_table(rows: list[dict[str, Any]]) -> None:
    from cascade.cli.words import last_run

    for number, row in enumerate(rows):
        if number:
            print()
        print(row["name"])
        if row["error"]:
            print(f"  broken    {row['error']}")
        else:
            print(f"  asks      {row['hypothesis'] or '(no docstring)'}")
            print(f"  dataset   {row['dataset']}")
            print(f"  stages    {' → '.join(row['stages']) or 'none'}")
        print(f"  last run  {last_run(row['last_run'])}")
        if row["champion"]:
            print(f"  serves    version {row['champion']}")
