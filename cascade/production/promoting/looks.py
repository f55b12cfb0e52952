"""What makes a look at test what it is.

Invariant: equal keys are the same look, which is counted once and says the same each time.
"""

import hashlib
import json
from typing import Any

from cascade.check import Prepared
from cascade.mlflow_store.models import serving_lms
from cascade.mlflow_store.programs import Program
from cascade.mlflow_store.versions import Version
from cascade.program import snapshot

BASELINE = "the baseline"


def lms_of(program: Program) -> object:
    """Which LMs answer, by predictor and by name."""
    return program.config["predictors"], program.config["lms"]


def lms_of_baseline(prepared: Prepared, program: Any) -> object:
    """The same of a program that the experiment's factory made."""
    return dict(snapshot(program).lms), serving_lms(prepared.settings.describe())


def metric_of(prepared: Prepared) -> str:
    """A hash of the metric, by which figures are known to be of the same."""
    return _digest({name: prepared.parts.get(name) for name in ("metric", "metric_code")})


def key_of(prepared: Prepared, version: Version, reference: Version | None) -> str:
    """What makes two looks the same: challenger, reference, test and metric."""
    against = reference.program if reference else BASELINE
    return _digest([version.program, against, prepared.data.test.fingerprint, metric_of(prepared)])


def _digest(value: object) -> str:
    return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()[:12]
