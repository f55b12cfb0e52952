"""Where MLflow shows what was sent, read from the notes in the journals, so that no server need be asked."""

from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from cascade.journal import Journal

VIEW = "workflowType=machine_learning"


def sent_to(journal: "Journal") -> tuple[str, str]:
    """MLflow's ids of the experiment and the run that a journal was sent to, or two times ""."""
    from cascade.errors import CascadeError
    from cascade.mlflow_store.publication import NOTES

    try:
        notes = journal.read(NOTES) or {}
    except CascadeError:
        return "", ""
    return str(notes.get("experiment_id", "")), str(notes.get("run_id", ""))


def experiments_page(home: Path) -> str:
    """The page that shows the cascades of the experiment that ran last, or all experiments where none is known."""
    from cascade.journal import Journal
    from cascade.mlflow_store.links import view_path

    found = sorted((home / "runs").glob("*/*/run.json"), key=lambda path: path.parent.name)
    experiment = next((known for path in reversed(found) if (known := sent_to(Journal(path.parent))[0])), "")
    return f"/{view_path(experiment, 'cascades')}" if experiment else f"/#/experiments?{VIEW}"
