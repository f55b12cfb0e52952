"""What is kept of an answer once it is given.

Invariant: it costs the answer some microseconds and never a wait.
"""

import json
from collections.abc import Collection
from dataclasses import dataclass
from typing import Any

from cascade.mlflow_store.served_traces import Answered
from cascade.production.serving.arms import Place
from cascade.production.serving.mirror import Mirror
from cascade.production.serving.recent import Kept, Recent


@dataclass(frozen=True)
class Keeping:
    """Where answers go.

    Args:
        sampled: share of the requests whose traces are sent.
    """

    recent: Recent
    mirror: Mirror
    sampled: float = 0.0

    def keep(self, answered: Answered, place: Place, size: int) -> None:
        """Keep a request of so many bytes for feedback, and send its trace if it is drawn."""
        self.recent.keep(Kept(answered, place.test, place.key, place.share), size)
        if int(answered.request[:8], 16) < self.sampled * 2**32:
            self.mirror.drain.offer(answered, size)


def fields_of(body: bytes, names: Collection[str]) -> dict[str, Any]:
    """The inputs as they were sent; none where only pydantic can read them, as a number of thousands of digits."""
    try:
        sent = json.loads(body)
    except ValueError:
        return {}
    return {name: value for name, value in sent.items() if name in names}
