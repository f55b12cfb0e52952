"""Names under which MLflow keeps experiments, models and prompts.

MLflow takes almost any name; Databricks does not: in Unity Catalog a model or prompt is `catalog.schema.name`, and an
experiment is an absolute path of the workspace. Invariant: a name of our making holds ASCII letters, digits, `_` and
`-` only; where that takes a change, it ends in a hash of what it was, so that two names never become one.
"""

import hashlib
import re
from dataclasses import dataclass

LONGEST = 200
"""Characters; Unity Catalog takes 255, and a prompt's name is longer than its experiment's."""
_OTHER = re.compile(r"[^A-Za-z0-9_-]+")


@dataclass(frozen=True)
class Names:
    """How the things of an experiment are called.

    Args:
        experiment_prefix: before the experiment's name, such as `/Shared/`; a folder on Databricks.
        model_prefix: before the names of its model and prompts, such as `main.ml.`: catalog and schema.
    """

    experiment_prefix: str = ""
    model_prefix: str = ""

    def experiment(self, name: str) -> str:
        """The name of the MLflow experiment.

        >>> Names(experiment_prefix="/Shared/").experiment("qa")
        '/Shared/qa'
        """
        return f"{self.experiment_prefix}{name}"

    def model(self, name: str) -> str:
        """The name of the registered model.

        >>> Names(model_prefix="main.ml.").model("qa")
        'main.ml.qa'
        """
        return f"{self.model_prefix}{plain(name)}"

    def prompt(self, name: str, predictor: str = "") -> str:
        """The name of a prompt, which must not be a model's: the two share their names in MLflow.

        Args:
            predictor: path of one in the program, where there are several.

        >>> Names().prompt("qa"), Names().prompt("qa", "steps[0].answer")
        ('qa-prompt', 'qa-prompt-steps-0-answer')
        """
        parts = [plain(name), "prompt", *re.findall(r"\w+", predictor)]
        return f"{self.model_prefix}{plain('-'.join(parts))}"


def plain(name: str) -> str:
    """A name that every registry takes; one that is such already stays as it is.

    >>> plain("help-desk_2"), plain("Grüße / 2")
    ('help-desk_2', 'Gr-e-2-12caf65d')
    """
    if name and len(name) <= LONGEST and not _OTHER.search(name):
        return name
    digest = hashlib.sha256(name.encode("utf-8", "surrogatepass")).hexdigest()[:8]
    kept = _OTHER.sub("-", name).strip("-")[: LONGEST - len(digest) - 1]
    return f"{kept}-{digest}" if kept else digest
