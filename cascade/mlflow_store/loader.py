"""MLflow's entry to a saved program: this file is copied into the model and run when it is loaded.

Invariant: it holds no logic of its own, so that a model saved by one version is loaded by the installed one.
"""

from pathlib import Path
from typing import Any

import mlflow
import pandas


class LoadedProgram(mlflow.pyfunc.PythonModel):  # type: ignore[misc]
    """A program behind MLflow's `predict`."""

    def load_context(self, context: Any) -> None:
        """Build the program from the model's files."""
        from cascade.mlflow_store.programs import rebuild

        self.program = rebuild(Path(context.artifacts["config.json"]).parent)

    def predict(self, context: Any, model_input: pandas.DataFrame, params: Any = None) -> list[dict[str, Any]]:  # noqa: ARG002
        """Output fields for rows of input fields."""
        rows: Any = model_input.to_dict("records") if hasattr(model_input, "to_dict") else model_input
        return [self.program.fields(row) for row in rows]


mlflow.models.set_model(LoadedProgram())
