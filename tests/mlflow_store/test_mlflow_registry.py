"""Which program is proposed as challenger."""

from pathlib import Path
from typing import Any

import mlflow_journals as by_hand
import pytest

from cascade.mlflow_store import MlflowTracker


@pytest.mark.parametrize(
    "case",
    [
        (["20261122-01", "20261122-02"], False, "2"),
        (["20261122-02", "20261122-01"], False, "1"),
        (["20261122-01", "20261122-02"], True, "1"),
    ],
)
def test_the_challenger_moves_forward_only_and_never_to_a_rejected_program(
    tmp_path: Path, uri: str, client: Any, case: tuple[list[str], bool, str]
) -> None:
    ids, rejected, challenger = case
    tracker = MlflowTracker(uri)
    tracker.publish(by_hand.unfinished(tmp_path, "completed", id=ids[0]))
    if rejected:
        client.set_model_version_tag("qa", "1", "rejected", "true")
    tracker.publish(by_hand.unfinished(tmp_path, "completed", id=ids[1]))
    assert str(client.get_model_version_by_alias("qa", "challenger").version) == challenger
    assert len(client.search_model_versions()) == 2


def test_the_best_is_the_baseline_so_nothing_is_registered(tmp_path: Path, uri: str, client: Any) -> None:
    MlflowTracker(uri).publish(by_hand.unfinished(tmp_path, "completed", best_stage="0-baseline", proven=None))
    assert client.search_registered_models() == []
    (parent,) = client.search_runs(["1"], "tags.cascade.kind = 'cascade'")
    assert parent.data.tags["cascade.proven"] == "false"
