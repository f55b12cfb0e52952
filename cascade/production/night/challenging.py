"""A night's challenger: what serves is scored, two searches run, and the best on dev is proposed.

Invariant: which program goes to the gate is chosen on dev.
"""

from dataclasses import replace

from cascade.check import Prepared
from cascade.errors import CascadeError
from cascade.production.night.choosing import Candidate, choose, half, left
from cascade.production.night.newest import about_score
from cascade.production.night.nights import FROM_CHAMPION, FROM_SCRATCH, Search
from cascade.production.night.searching import baseline, candidate, search
from cascade.production.night.watch import Watch
from cascade.production.promoting.registrar import Registrar
from cascade.production.promoting.scoring import scoring
from cascade.program import snapshot
from cascade.report.reading import Run
from cascade.spending import Spent


def challenger(watch: Watch, prepared: Prepared) -> str:
    """Search from the champion and from scratch; the version that goes to the gate, or "".

    Raises:
        CascadeError: neither search came to a result.
    """
    incumbent, spent = _champion(watch, prepared)
    runs = _runs(watch, spent)
    if not runs:
        said = watch.night.unfinished
        raise CascadeError(f"No search came to a result. {said[:1].upper()}{said[1:]}.")
    with watch.desk() as desk:
        chosen, why = choose(
            incumbent or baseline(next(iter(runs.values()))),
            _candidates(desk, runs),
            watch.place.experiment.plateau,
            dict(zip(prepared.data.dev.ids, prepared.data.dev.groups, strict=True))
            if prepared.data.dev.groups
            else None,
        )
        watch.note(choice=why)
        versions = {version.run: version.number for version in desk.versions.all()}
        number = versions[chosen.run] if chosen else ""
        if number or desk.challenger_now in {versions.get(run.id) for run in runs.values()}:
            desk.propose(number or watch.night.proposed)  # sending the runs has proposed the last of them
    watch.place.progress.tell(why)
    return number


def _candidates(desk: Registrar, runs: dict[str, Run]) -> list[Candidate]:
    """What runs found beyond the baseline, and what of it must not go to the gate."""
    versions = {version.run: version for version in desk.versions.all()}
    rejected = {version.program for version in versions.values() if version.rejected}
    found = []
    for name, run in runs.items():
        if one := candidate(run, name):
            version, barred = versions.get(run.id), one.barred
            if version is None:
                barred = "MLflow has no version of it"
            elif version.program in rejected:
                barred = "it was rolled back before"
            found.append(replace(one, barred=barred))
    return found


def _champion(watch: Watch, prepared: Prepared) -> tuple[Candidate | None, Spent]:
    """What serves, as it does on dev and on test today."""
    with watch.desk() as desk:
        version, entries = desk.champion, desk.log.entries()
    if version is None:
        return None, Spent()
    data, name = prepared.data, f"champion {version.number}"
    with scoring(prepared, watch.place.progress) as scorer:
        program = scorer.load(version)
        dev, test = scorer.score(program, data.dev, name), scorer.score(program, data.test, name)
    watch.warn(about_score(prepared, entries, version.number, test))
    watch.note(champion_scores={"dev": dev.mean, "test": test.mean}, spent_beside=scorer.spent.to_json())
    scores = dict(zip(data.dev.ids, dev.scores, strict=True))
    taken = snapshot(program.module)
    return Candidate("the champion", taken.digest, scores, dev.serving(), taken.lms), scorer.spent


def _runs(watch: Watch, spent: Spent) -> dict[str, Run]:
    """Both searches within the night's budget, of which the night tells; each run is in MLflow in full."""
    budget, number = watch.place.experiment.budget, watch.night.champion
    with watch.desk() as desk:
        model = desk.versions.name
    runs, searches = dict[str, Run](), list[Search]()
    for name in (FROM_CHAMPION, FROM_SCRATCH) if number else (FROM_SCRATCH,):
        rest = left(budget, spent)
        share = half(rest) if rest and name == FROM_CHAMPION else rest
        start = f"models:/{model}/{number}" if name == FROM_CHAMPION else ""
        one, run = search(watch.place, name, start, share, began=watch.night.began, again=watch.asked.anyway)
        spent += Spent.from_json(one.spent) if one.spent else Spent()
        if run:
            watch.place.publish(run)
            runs[name] = run
        searches.append(one)
        watch.note(searches=tuple(searches))
        if one.warning:
            watch.place.progress.warn(one.warning)
    return runs
