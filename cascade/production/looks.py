"""What makes two looks at test the same look.

Invariant: the same program against the same one, on the same test under the same metric, has the same key.
"""

import hashlib
import json

from cascade.check import Prepared
from cascade.mlflow_store.versions import Version

BASELINE = "the baseline"
"""What a challenger is compared with where nothing serves."""


def look_key(prepared: Prepared, version: Version, reference: Version | None) -> str:
    """The key of a look; None is the baseline."""
    against = reference.program if reference else BASELINE
    return _digest([version.program, against, prepared.data.test.fingerprint, metric_of(prepared)])


def metric_of(prepared: Prepared) -> str:
    """A hash of the metric, by which figures are known to be of the same."""
    return _digest({name: prepared.parts.get(name) for name in ("metric", "metric_code")})


def _digest(value: object) -> str:
    return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()[:12]
