"""`dspy.Ensemble` as a stage: who votes, and what is refused before anything is asked."""

from pathlib import Path
from typing import Any

import dspy
import pytest
import scripted
from optimizer_contract import STAGES, examine

from cascade.errors import ExperimentError
from cascade.experiment import Stage
from cascade.optimizers import Ensemble
from cascade.optimizers.loops import work
from cascade.optimizers.work import Given
from cascade.program import snapshot
from cascade.testing import ScriptedEngine


def test_the_incumbent_and_earlier_programs_vote_each_once() -> None:
    found = examine(STAGES["Ensemble"])
    members = [snapshot(member).digest for member in found.made.members]
    assert members == [snapshot(found.before).digest, snapshot(scripted.Asks()).digest]


def test_size_says_how_many_and_one_is_no_vote() -> None:
    assert "a vote needs two at least" in examine(Stage("s", dspy.Ensemble, size=1)).failed
    programs = [scripted.Asks() for _ in range(5)]
    assert len(Ensemble(size=4).compile(programs[0], programs=programs[1:]).members) == 4
    assert len(Ensemble(size=None).compile(programs[0], programs=programs[1:]).members) == 5


def test_a_function_that_cannot_be_saved_is_refused() -> None:
    assert "reduce_fn = " in examine(Stage("s", dspy.Ensemble, reduce_fn=max)).failed
    with pytest.raises(ExperimentError, match=r"cannot be saved\. Leave it out"):
        Ensemble(reduce_fn=max)
    Ensemble(reduce_fn=dspy.majority)


def test_a_run_lets_the_best_of_its_stages_vote_and_goes_on_from_there(tmp_path: Path) -> None:
    defined = scripted.experiment(
        Stage("labels", dspy.LabeledFewShot, k=3),
        Stage("demos", dspy.BootstrapFewShot),
        Stage("vote", dspy.Ensemble, size=3),
        Stage("later", dspy.LabeledFewShot, k=2, lever="both"),
        plateau=scripted.PATIENT,
    )
    result: Any = scripted.run(defined, tmp_path, ScriptedEngine(scripted.answer))
    vote = next(stage for stage in result.stages if stage.name == "3-vote")
    judged = [stage for stage in result.stages if stage.name in ("0-baseline", "1-labels", "2-demos")]
    assert vote.status == "done"
    assert {snapshot(member).digest for member in vote.program.members} == {stage.taken.digest for stage in judged}
    means = {stage.taken.digest: stage.dev.mean for stage in judged}
    assert means[snapshot(vote.program.members[0]).digest] == max(means.values())
    assert vote.dev.mean > 0
    assert [stage.status for stage in result.stages] == ["done"] * 5


def test_a_vote_has_no_bound_before_its_members_are_known() -> None:
    assert "once a member" in str(work(dspy.Ensemble, {"size": 3}, Given(scripted.Asks(), 24)))
