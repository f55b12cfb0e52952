"""Runs side by side: what differs, paired verdicts, and score against serving cost.

Invariant: scores are compared only on the same rows under the same metric; where that is not so, a sentence says why.
All pairs share one confidence, corrected for their number.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import Any

from cascade.comparison import Comparison, Verdict, compare, corrected
from cascade.errors import DatasetError, ExperimentError, Refused
from cascade.journal import StageRecord
from cascade.report.figures import gained, percent
from cascade.report.pairing import Paired, paired
from cascade.report.reading import Run
from cascade.report.sameness import other_code
from cascade.report.story import detectable
from cascade.report.text import diff
from cascade.spending import Unit

COMPARED = "comparison"
"""Kind of a run that has no stages: a program that was judged to be compared with others."""
_KEYS: Mapping[Unit, str] = {"dollars": "cost_usd", "weights_gb": "weights_gb"}
"""Of what a stage takes to serve, by unit."""


@dataclass(frozen=True)
class Judgement:
    """The later run's best program against the earlier one's on one split.

    Args:
        says: the verdict with its figures, or why there is none.
        verdict: `unchanged` for the same program; None where nothing was compared.
        comparison: None where nothing was compared.
    """

    says: str
    verdict: Verdict | None = None
    comparison: Comparison | None = None


@dataclass(frozen=True)
class Pair:
    """Two runs; `after` is compared with `before`."""

    before: Run
    after: Run
    dev: Judgement
    test: Judgement
    examples: Paired
    prompts: tuple[str, ...]


@dataclass(frozen=True)
class Point:
    """A stage: dev score against what answering one example takes.

    Args:
        frontier: no other stage scores as much for less, or more for as much.
    """

    run: str
    stage: str
    score: float
    cost: float
    frontier: bool = False


@dataclass(frozen=True)
class SideBySide:
    """Runs compared.

    Args:
        runs: in the order in which they were given; each is compared with those before it.
        differences: by what differs, the value of each run.
        points: cheapest first, of the runs whose dev scores can be compared with the last one's.
        unit: of their cost an example, as in `cascade.spending.Serving`.
        left_out: ids of the runs that have no points for that reason.
        earlier: pairs of other programs that were compared on the same rows of dev before.
    """

    runs: tuple[Run, ...]
    pairs: tuple[Pair, ...]
    differences: Mapping[str, tuple[str, ...]]
    points: tuple[Point, ...]
    unit: Unit
    left_out: tuple[str, ...]
    earlier: int = 0


def side_by_side(runs: Sequence[Run]) -> SideBySide:
    """Compare each run with those before it.

    Raises:
        ExperimentError: fewer than two runs.
        Refused: no two of them can be compared; the reason is the last pair's.
    """
    if len(runs) < 2:
        name = runs[0].record.experiment if runs else ""
        raise ExperimentError(f"One run of {name!r} is nothing to compare. Run it again: cascade run {name}")
    both = list(combinations(runs, 2))
    count = sum(not not_alike(before, after, "dev") for before, after in both)
    pairs = tuple(_pair(before, after, max(1, count)) for before, after in both)
    if all(pair.dev.verdict is None and pair.test.verdict is None for pair in pairs):
        raise Refused(pairs[-1].dev.says)
    alike = [run for run in runs if not not_alike(run, runs[-1], "dev")]
    points, unit = pareto(alike)
    known = {run.id for run in alike}
    left_out = tuple(run.id for run in runs if run.id not in known)
    return SideBySide(tuple(runs), pairs, differences(runs), points, unit, left_out)


def not_alike(before: Run, after: Run, split: str) -> str:
    """Why scores of two runs on a split cannot be compared; "" where they can."""
    ours, theirs = f"Runs {before.id} and {after.id}", "Run both definitions on the same data and metric"
    metrics = [run.record.params.get("metric", "") for run in (before, after)]
    if metrics[0] != metrics[1]:
        return f"{ours} were judged by different metrics, {metrics[0]!r} and {metrics[1]!r}. {theirs} to compare them."
    if other := other_code(before.record, after.record, (before.source, after.source)):
        return f"{ours} {other}. {theirs} to compare them."
    prints = [str(run.record.splits.get(split, {}).get("fingerprint", "")) for run in (before, after)]
    if prints[0] != prints[1] or not prints[0]:
        shown = " and ".join(one or "unknown" for one in prints)
        return f"{ours} had different rows in {split} (fingerprints {shown}). {theirs} to compare them."
    return ""


def differences(runs: Sequence[Run]) -> dict[str, tuple[str, ...]]:
    """What is not the same in all runs, with each one's value."""
    facts = [_facts(run) for run in runs]
    names = dict.fromkeys(name for one in facts for name in one)
    rows = {name: tuple(one.get(name, "–") for one in facts) for name in names}
    return {name: values for name, values in rows.items() if len(set(values)) > 1}


def pareto(runs: Sequence[Run]) -> tuple[tuple[Point, ...], Unit]:
    """Stages by what one example costs to serve, cheapest first, and the unit.

    Dollars where all are known and not all zero, else the weights of embedded models, else tokens. A program that
    several stages or runs had is shown once, where it was first.
    """
    stages: dict[object, tuple[Run, StageRecord]] = {}
    for run in runs:
        for stage in run.stages:
            if "dev_score" in stage.metrics and stage.serving and run.programs[stage.folder]:
                stages.setdefault(_program(run, stage), (run, stage))
    unit = _unit([stage.serving for _, stage in stages.values()])
    points = [
        Point(
            run.id,
            run.id if run.record.kind == COMPARED else stage.folder,
            stage.metrics["dev_score"],
            _cost(stage.serving, unit),
        )
        for run, stage in stages.values()
    ]
    ordered = sorted(points, key=lambda point: (point.cost, -point.score, point.run, point.stage))
    return tuple(_placed(point, ordered) for point in ordered), unit


def _placed(point: Point, points: Sequence[Point]) -> Point:
    beaten = any(
        other.score >= point.score
        and other.cost <= point.cost
        and (other.score, other.cost) != (point.score, point.cost)
        for other in points
    )
    return Point(point.run, point.stage, point.score, point.cost, frontier=not beaten)


def _unit(servings: Sequence[Mapping[str, float]]) -> Unit:
    """The first in which all are known and not all zero."""
    for unit, key in _KEYS.items():
        amounts = [serving.get(key) for serving in servings]
        if None not in amounts and any(amounts):
            return unit
    return "tokens"


def _cost(serving: Mapping[str, float], unit: Unit) -> float:
    if unit != "tokens":
        return serving[_KEYS[unit]]
    return serving.get("input_tokens", 0.0) + serving.get("output_tokens", 0.0)


def _pair(before: Run, after: Run, pairs: int) -> Pair:
    examples, prompts = Paired(), tuple[str, ...]()
    if before.best and after.best:
        names = before.best.folder, after.best.folder
        prompts = tuple(diff(before.prompts[names[0]], after.prompts[names[1]]))
        if not not_alike(before, after, "dev"):
            examples = paired(before.examples.get(names[0], ()), after.examples.get(names[1], ()))
    dev, test = (_judgement(before, after, split, pairs) for split in ("dev", "test"))
    return Pair(before, after, dev, test, examples, prompts)


def _judgement(before: Run, after: Run, split: str, pairs: int) -> Judgement:
    missing = _missing(before, split) or _missing(after, split)
    if missing := missing or not_alike(before, after, split) or _apart(before, after, split):
        return Judgement(missing)
    if before.best and after.best and _program(before, before.best) == _program(after, after.best):
        return Judgement(f"On {split}: the same program; nothing was tested.", Verdict.UNCHANGED)
    theirs, ours = _scores(before, split), _scores(after, split)
    if theirs.keys() != ours.keys():
        return Judgement(f"Runs {before.id} and {after.id} were not judged on the same examples of {split}.")
    ids, groups = list(ours), (after.groups or {}).get(split)
    rules = [run.record.params for run in (before, after)]
    try:
        found = compare(
            [ours[id_] for id_ in ids],
            [theirs[id_] for id_ in ids],
            groups=[groups[id_] for id_ in ids] if groups else None,
            confidence=corrected(max(float(one.get("plateau.confidence", 0.9)) for one in rules), pairs),
            margin=min(float(one.get("plateau.equivalence_margin", 0.03)) for one in rules),
        )
    except (DatasetError, ValueError, KeyError) as error:
        return Judgement(f"Runs {before.id} and {after.id} cannot be compared on {split}: {error}")
    return Judgement(_says(before, after, split, found), found.verdict, found)


def _apart(before: Run, after: Run, split: str) -> str:
    """Why the two cannot be paired group by group; "" where they can."""
    for run in (before, after):
        if run.groups is None:
            return (
                f"The journal of run {run.id} does not say which examples belong together. Run it again to compare it."
            )
    if (before.groups or {}).get(split) == (after.groups or {}).get(split):
        return ""
    return f"Runs {before.id} and {after.id} grouped the rows of {split} differently, so they cannot be compared."


def _missing(run: Run, split: str) -> str:
    if not run.best:
        return f"Run {run.id} judged no program."
    if split == "test" and run.test is None:
        return "On test: not looked at." if run.record.kind == COMPARED else f"Run {run.id} did not look at test."
    there = run.test_scores if split == "test" else run.examples.get(run.best.folder)
    return (
        "" if there else f"The journal of run {run.id} has no scores by example of {split}. Run it again to compare it."
    )


def _scores(run: Run, split: str) -> dict[str, float]:
    if split == "test" and run.test_scores:
        return dict(zip(run.test_scores.id, run.test_scores.best, strict=True))
    return {one.id: one.score for one in run.examples[run.best.folder]} if run.best else {}


def _program(run: Run, stage: StageRecord) -> tuple[str, ...]:
    """What is the same for the same program: code, LMs and state."""
    parts = run.record.parts
    return (parts.get("source", run.id), parts.get("lms", run.id), run.programs[stage.folder] or run.id)


def _says(before: Run, after: Run, split: str, found: Comparison) -> str:
    scores = [_scores(run, split) for run in (before, after)]
    theirs, ours = (sum(one.values()) / len(one) for one in scores)
    names = [_judged_as(run) for run in (before, after)]
    decided = found.verdict in (Verdict.BETTER, Verdict.WORSE)
    limit = "" if decided else f" ({detectable(found.minimum_detectable_gain)})"
    chosen, bounds = _chosen(before, after, split), (found.interval.low, found.interval.high)
    return (
        f"On {split}{chosen}, {found.n} examples: {names[1]} {percent(ours)} against {names[0]} {percent(theirs)}: "
        f"{gained(found.gain, bounds)} at {100 * found.interval.confidence:.1f}% confidence: {found.verdict}{limit}."
    )


def _chosen(before: Run, after: Run, split: str) -> str:
    """Whose score on dev may flatter it: what came out of a search was selected there."""
    runs = [run for run in (before, after) if run.record.kind != COMPARED or "start" in run.record.params]
    if split != "dev" or not runs:
        return ""
    return f" ({'both' if len(runs) > 1 else _judged_as(runs[0])} selected on dev)"


def _judged_as(run: Run) -> str:
    if run.record.kind == COMPARED:
        return run.id
    return run.best.folder if run.best else ""


def _facts(run: Run) -> dict[str, str]:
    record = run.record
    parts = {"data": "data", "source": "program and its file", "stages": "stages", "lms": "LMs and their options"}
    parts |= {"metric": "metric", "metric_code": "metric's code"}
    facts: dict[str, Any] = {f"hash of {name}": record.parts.get(part, "–") for part, name in parts.items()}
    facts |= {
        f"rows of {name}": f"{split.get('rows')} ({split.get('fingerprint')})" for name, split in record.splits.items()
    }
    facts |= {name: value for name, value in record.params.items() if not name.startswith("dataset.")}
    return facts | {"stage names": ", ".join(s.name for s in run.stages[1:]), "git commit": record.git_sha[:12]}
