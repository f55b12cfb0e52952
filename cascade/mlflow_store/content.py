"""What MLflow shows of a run, as values: tags, params, metrics, notes.

Invariant: everything here is a pure function of journal records; the names are the contract that other tools read.
"""

import math
import re
import time
from collections.abc import Mapping, Sequence
from typing import Any

from cascade.journal import RunRecord, StageRecord

COLORS = ("#888888", "#4e79a7", "#59a14f", "#f28e2b", "#e15759", "#b07aa1", "#76b7b2", "#edc948", "#9c755f")
RUN_STATUS = {"running": "RUNNING", "interrupted": "KILLED", "failed": "FAILED"}
"""MLflow's word for a run's status; all others ended well."""
REGISTERED = ("completed", "plateau", "target", "budget")
_TOTALS = (
    "lm_calls", "lm_calls_cached", "input_tokens", "output_tokens", "cost_usd", "seconds", "judge_lm_calls",
    "judge_cost_usd",
)  # fmt: skip
_TAG_LIMIT, _PARAM_LIMIT = 5000, 6000


def run_name(run: RunRecord) -> str:
    """`11-22 02:20 cascade`, in local time."""
    return f"{time.strftime('%m-%d %H:%M', time.localtime(run.started))} {run.kind}"


def run_tags(run: RunRecord, stages: Sequence[StageRecord], pages: str = "") -> dict[str, str]:
    """Tags of the parent run; `cascade.proven` is absent until it is known.

    Args:
        pages: links for its description, in Markdown.
    """
    tags = {
        "cascade.run_id": run.id,
        "cascade.kind": run.kind,
        "cascade.signature": run.signature,
        "cascade.dataset": run.dataset,
        "cascade.status": run.status,
        "cascade.git_sha": run.git_sha,
        "cascade.best_stage": run.best_stage,
        "mlflow.note.content": run_note(run, stages, pages),
        "mlflow.source.type": "LOCAL",
        "mlflow.source.name": f"experiments/{run.experiment}.py",
        **({"mlflow.source.git.commit": run.git_sha} if run.git_sha else {}),
    }
    if run.proven is not None or run.status in REGISTERED:
        tags["cascade.proven"] = str(bool(run.proven)).lower()
    return _cut(tags, _TAG_LIMIT)


def stage_tags(run: RunRecord, stage: StageRecord, *, traces: str = "", incumbent: str = "") -> dict[str, str]:
    """Tags of a stage's run; a stage without a decision has empty ones.

    Args:
        traces: link to its traces, beside those of the stage `incumbent` if there is one.
    """
    link = f"[Traces beside `{incumbent}`]({traces})" if incumbent else f"[Traces]({traces})"
    return _cut(
        {
            "cascade.run_id": run.id,
            "cascade.stage": stage.folder,
            "cascade.lever": stage.lever,
            "cascade.verdict": stage.verdict,
            "cascade.kept": stage.kept,
            "cascade.next": stage.next,
            "cascade.stage_status": stage.status,
            "mlflow.note.content": stage_note(run, stage, link if traces else ""),
            "mlflow.runColor": COLORS[stage.number % len(COLORS)],
        },
        _TAG_LIMIT,
    )


def params(values: Mapping[str, Any]) -> dict[str, str]:
    """Params as MLflow takes them: text, cut."""
    return _cut({name: str(value) for name, value in values.items()}, _PARAM_LIMIT)


def run_metrics(run: RunRecord) -> dict[str, float]:
    """Totals, calls and dollars by LM where several were called, and test figures once they are known."""
    return rounded({**_totals(run.spent), **_by_lm(run.spent_by_lm), **run.metrics})


def stage_metrics(run: RunRecord, stage: StageRecord) -> dict[str, float]:
    """A stage's figures; what it spent is known even if it failed."""
    return rounded({**_totals(run.spent_by_stage.get(stage.folder, {})), **stage.metrics})


def best_scores(stages: Sequence[StageRecord]) -> dict[int, float]:
    """Best dev score so far by stage number: the baseline's, then that of each program that was kept."""
    best, steps = -math.inf, {}
    for stage in stages:
        score = stage.metrics.get("dev_score")
        if stage.status != "done" or score is None:
            continue
        if stage.number == 0 or stage.kept == "new":
            best = max(best, score)
        if best > -math.inf:
            steps[stage.number] = round(best, 4)
    return steps


def incumbent(stage: StageRecord, stages: Sequence[StageRecord]) -> str:
    """The stage whose program this one started from: the last before it that was kept; "" for the baseline."""
    kept = [before for before in stages if before.number < stage.number and before.status == "done"]
    return next((before.folder for before in reversed(kept) if before.number == 0 or before.kept == "new"), "")


def rounded(metrics: Mapping[str, float]) -> dict[str, float]:
    """Metrics at 4 places, dollars at 6, without what is no number: charts show every digit they get."""
    finite = {name: float(value) for name, value in metrics.items() if value is not None and math.isfinite(value)}
    return {name: round(value, 6 if "_usd" in name else 4) for name, value in finite.items()}


def stage_note(run: RunRecord, stage: StageRecord, link: str = "") -> str:
    """Verdict, interval and spend in the first sentence, then a link; MLflow shows about four lines."""
    figures = stage_metrics(run, stage)
    head = f"{stage.verdict or stage.status} → {stage.next}" if stage.next else stage.verdict or stage.status
    facts = [_percent("dev", figures, "dev_score", "dev_ci"), _points(figures, "gain"), _spend(figures)]
    first = f"**{head}.** {', '.join(fact for fact in facts if fact)}.".replace("** .", "**")
    return "\n\n".join(part for part in (f"{first}\n{link}".strip(), stage.reason) if part)


def run_note(run: RunRecord, stages: Sequence[StageRecord], pages: str = "") -> str:
    """Outcome, test figures and spend in the first sentence, then links and a line a stage."""
    figures = run_metrics(run)
    proof = "" if run.proven is None else ("proven on test" if run.proven else "not proven")
    test = _percent("test", figures, "test_score", "test_ci")
    facts = [f"best `{run.best_stage}`", test, _points(figures, "test_gain"), proof, _spend(figures)]
    lines = [f"- `{stage.folder}` {stage_note(run, stage).splitlines()[0]}" for stage in stages]
    first = f"**{run.status}.** {', '.join(fact for fact in facts if fact)}."
    return "\n\n".join(part for part in (f"{first}\n{pages}".strip(), run.summary, "\n".join(lines)) if part)


def experiment_note(run: RunRecord, pages: str = "") -> str:
    """The hypothesis, where it is written, and links."""
    place = f"File: `experiments/{run.experiment}.py` · data: `{run.dataset}`"
    return "\n\n".join(part for part in (run.hypothesis or run.experiment, place, pages) if part)


def _totals(spent: Mapping[str, Any]) -> dict[str, float]:
    return {name: spent[name] for name in _TOTALS if spent.get(name) is not None}


def _by_lm(spent: Mapping[str, Mapping[str, Any]]) -> dict[str, float]:
    """`lm_calls_cloud`, `cost_usd_cloud`."""
    if len(spent) < 2:
        return {}
    names = {name: re.sub(r"[^A-Za-z0-9_.-]+", "_", name) for name in spent}
    return {
        f"{figure}_{names[name]}": one[figure]
        for name, one in spent.items()
        for figure in ("lm_calls", "cost_usd")
        if one.get(figure) is not None
    }


def _percent(word: str, figures: Mapping[str, float], key: str, ci: str) -> str:
    if key not in figures:
        return ""
    return f"{word} {figures[key]:.1%}" + _interval(figures, ci, "{:.1%}", 1)


def _points(figures: Mapping[str, float], key: str) -> str:
    if key not in figures:
        return ""
    return f"gain {100 * figures[key]:+.1f}{_interval(figures, f'{key}_ci', '{:+.1f}', 100)} points"


def _interval(figures: Mapping[str, float], key: str, form: str, times: float) -> str:
    low, high = figures.get(f"{key}_low"), figures.get(f"{key}_high")
    if low is None or high is None:
        return ""
    return f" [{form.format(times * low)}, {form.format(times * high)}]"


def _spend(figures: Mapping[str, float]) -> str:
    if "lm_calls" not in figures:
        return ""
    cost = figures.get("cost_usd")
    dollars = "" if not cost else f", ${cost:.4f}".rstrip("0").rstrip(".")
    return f"{figures['lm_calls']:,.0f} LM calls{dollars}, {figures.get('seconds', 0):.0f} s"


def _cut(values: Mapping[str, str], limit: int) -> dict[str, str]:
    return {name: value if len(value) <= limit else value[: limit - 1] + "…" for name, value in values.items()}
