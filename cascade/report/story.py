"""A run in sentences.

Invariant: "proven on test" is said only where the interval of the gain on test is above 0, else "not proven"; a dev
score of a program that was chosen by it is called "selected on dev".
"""

from cascade.journal import StageRecord
from cascade.report.figures import calls, clock, counted, dollars, gained, moment, percent, percent_interval, points
from cascade.report.pairing import against_baseline
from cascade.report.reading import Run, incumbent
from cascade.report.text import in_line
from cascade.spending import Serving

STATUS = {
    "running": "is running",
    "completed": "came to its end",
    "plateau": "stopped early, at a plateau",
    "target": "stopped early, because the target was reached",
    "budget": "stopped because its budget was spent",
    "interrupted": "was interrupted",
    "failed": "failed",
}
SELECTED = "selected on dev"


def proof(run: Run) -> str:
    """`proven on test` or `not proven`."""
    return "proven on test" if run.test and run.test.proven else "not proven"


def story(run: Run) -> list[str]:
    """The run from its beginning to what to do next, a sentence or two an entry, each in one line."""
    told = [_opening(run), _dev(run), _test(run), _examples(run), run.headroom and f"Headroom: {run.headroom}"]
    return [in_line(text) for text in (*told, _warned(run), _stages(run), _saved(run), _cost(run), way_on(run)) if text]


def _warned(run: Run) -> str:
    """Where checks saw something wrong; not what, because that quotes rows, those of test too."""
    why = f"`cascade check {run.record.experiment}` says why"
    return f"When it began, checks warned of {' and of '.join(run.warned)}: {why}." if run.warned else ""


def headline(run: Run) -> str:
    """The outcome in one sentence."""
    if not run.best:
        return "No program was judged."
    if not run.judged:
        return f"Best so far: {run.best.folder}, {_dev_score(run.best)}; {proof(run)}."
    if run.best is run.baseline:
        return "No stage was kept: the best program is the baseline itself; not proven."
    gain = f": {gained(run.test.gain, run.test.interval)}" if run.test else ""
    return f"Best: {run.best.folder}, {proof(run)}{gain}."


def way_on(run: Run) -> str:
    """How to go on with a run that did not come to its end; "" for others."""
    name, start = run.record.experiment, run.record.params.get("start")
    if start:
        name = f"{name} --from {start}"
    if run.status == "interrupted":
        return (
            f"To go on: `cascade run {name}`. It takes up this run as long as its definition is the same; "
            "no recorded answer is paid for again."
        )
    if run.status == "failed":
        return (
            f"To go on: mend the cause, then `cascade run {name}`. It is a new run; "
            "answers that were recorded are not paid for again."
        )
    if run.status == "budget":
        return (
            f"To go further: raise `budget` in experiments/{run.record.experiment}.py, then `cascade run {name}`. "
            "Answers that were recorded are not paid for again."
        )
    return ""


def why_ended(run: Run) -> str:
    """What a run that was interrupted or failed died of, or ""."""
    summary = run.record.summary if run.status in ("interrupted", "failed") else ""
    return in_line(summary.partition(": ")[2])


def why_skipped(run: Run, stage: StageRecord) -> str:
    """Which decision left a stage out, and why."""
    for folder, decided in run.decisions.items():
        if stage.name in decided.skipped:
            return f"by the decision after {folder}"
    return in_line(stage.reason)


def reason(run: Run, stage: StageRecord) -> str:
    """What was decided after a stage, or why there was nothing to decide."""
    if stage.status == "skipped":
        return f"Skipped {why_skipped(run, stage).removeprefix('skipped ').rstrip('.')}."
    return in_line(stage.reason) or ("The program as it is, before any stage." if stage.number == 0 else "")


def detectable(gain: float) -> str:
    """The least gain that would have been seen."""
    return f"less than {100 * gain:.1f} points would likely not have been seen"


def _opening(run: Run) -> str:
    record = run.record
    lasted = f" after {clock(run.heard - record.started)}" if run.status != "running" else ""
    why = f": {why}" if (why := why_ended(run)) else ""
    return f"Run {run.id} of {record.experiment}, begun {moment(record.started)}, {STATUS[run.status]}{lasted}{why}."


def _dev(run: Run) -> str:
    if not run.baseline or not run.best:
        return "No program was judged: not even the baseline's evaluation on dev came to its end."
    first = f"The baseline scores {_dev_score(run.baseline)}"
    if run.best is run.baseline:
        return f"{first}; no stage was kept, so it is the best program."
    so_far = "" if run.judged else " so far"
    return f"{first}; the best{so_far}, {run.best.folder}, {_dev_score(run.best)} ({SELECTED})."


def _dev_score(stage: StageRecord) -> str:
    figures = stage.metrics
    interval = percent_interval(figures.get("dev_ci_low"), figures.get("dev_ci_high"))
    return f"{percent(figures.get('dev_score'))} {interval}".strip() + " on dev"


def _test(run: Run) -> str:
    look, figures = run.test, run.record.metrics
    if look is None:
        return "Not judged on test, so not proven." if run.best else ""
    before, after = percent(figures.get("baseline_test_score")), percent(figures.get("test_score"))
    if run.best is run.baseline:
        return f"On test the baseline scores {before}. There is no gain to prove: not proven."
    looked = f" This was look {look.looks} at this test split." if look.looks > 1 else ""
    return (
        f"Test {before} → {after}, {proof(run)}: {gained(look.gain, look.interval)} at {look.confidence:.0%} "
        f"confidence, {counted(look.n, 'example')}; {detectable(look.minimum_detectable_gain)}.{looked}"
    )


def _examples(run: Run) -> str:
    found = against_baseline(run)
    if not found.won and not found.lost:
        return ""
    return f"Against the baseline on dev: {found.sentence}."


def _stages(run: Run) -> str:
    after = [stage for stage in run.stages if stage.number]
    told = [
        f"{len(names)} {word}" + (f" ({', '.join(names)})" if word != "done" else "")
        for word in ("done", "failed", "skipped")
        if (names := [stage.name for stage in after if stage.status == word])
    ]
    return f"Stages: {', '.join(told)}." if told else ""


def _saved(run: Run) -> str:
    """What stages that aimed at cheaper came to."""
    return " ".join(_saving(run, stage) for stage in run.stages if run.decisions[stage.folder].aim == "cheaper")


def _saving(run: Run, stage: StageRecord) -> str:
    decided, before = run.decisions[stage.folder], incumbent(stage, run.stages)
    kept = "was kept" if stage.kept == "new" else "was not kept"
    facts = []
    if before and (costs := decided.serving):
        facts.append(f"{Serving(**costs.model_dump())}, to serve")
        if "seconds" in stage.serving and "seconds" in before.serving:
            facts.append(f"{stage.serving['seconds']:.2f} s instead of {before.serving['seconds']:.2f} s an answer")
    if before and decided.incumbent_gain is not None and decided.incumbent_interval and decided.margin is not None:
        difference = gained(decided.incumbent_gain, decided.incumbent_interval)
        facts.append(f"{difference} against {before.folder}, margin {points(-decided.margin)}")
    return f"{stage.folder} aimed at cheaper and {kept}{': ' if facts else ''}{'; '.join(facts)}."


def _cost(run: Run) -> str:
    spent = run.record.spent
    if not spent:
        return "Nothing was spent."
    tokens = counted(spent.get("input_tokens", 0) + spent.get("output_tokens", 0), "token")
    cost = dollars(spent["cost_usd"]) if "cost_usd" in spent else "dollars unknown, because an LM has no known price"
    if judged := spent.get("judge_lm_calls"):
        cost += f"; {counted(judged, 'call')} of these the metric's own"
    return f"It took {calls(spent)}, {tokens}, {clock(spent.get('seconds', 0.0))}; {cost}."
