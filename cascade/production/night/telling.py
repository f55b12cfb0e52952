"""A night in sentences, and as the document that the terminal, the page and `--json` are made from.

Invariant: nothing is reckoned here; figures are those that were noted.
"""

from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

from cascade.production.night.due import Work
from cascade.production.night.nights import Night, Search
from cascade.report.figures import calls, clock, dollars, percent


def document(night: Night) -> dict[str, Any]:
    """Plain values; `summary` is a list of sentences, the first of which says what came of the night."""
    return {
        **asdict(night),
        "spent": night.spent.to_json(),
        "warnings": list(night.warnings),
        "summary": [headline(night), *details(night)],
    }


def headline(night: Night) -> str:
    """What came of it, in a sentence."""
    if night.state == "failed":
        return f"The night of {night.id} failed: {night.error}"
    if night.state == "running":
        return f"The night of {night.id} is not over; `cascade nightly {night.experiment}` goes on with it."
    if night.state == "nothing due" and night.due:
        return night.due.reason
    return _ended(night)


def _ended(night: Night) -> str:
    ruled, name = night.ruled, night.experiment
    if night.promoted:
        return f"Version {night.promoted} of {name} serves now."
    if ruled and ruled.granted:
        way = f"`cascade promote {name} --version {ruled.version}` takes it into service"
        return f"Version {ruled.version} of {name} passed the gate and waits: {way}."
    if ruled:
        stays = f"version {night.champion} goes on serving" if night.champion else "nothing serves yet"
        return f"Version {ruled.version} of {name} was refused; {stays}."
    return f"No challenger: {'version ' + night.champion if night.champion else 'the baseline'} is not beaten on dev."


def details(night: Night) -> list[str]:
    """The rest, a sentence each."""
    said = [_about_rows(night)]
    if night.due and night.due.work is not Work.NOTHING:
        said.append(night.due.reason)
    if night.champion_scores:
        dev, test = (percent(night.champion_scores.get(split)) for split in ("dev", "test"))
        said.append(f"Version {night.champion}, the champion, scores {dev} on dev and {test} on test as they are.")
    said += [_about_search(search) for search in night.searches if search.run]
    said += [night.choice, night.ruled.reason if night.ruled else ""]
    if night.due and night.due.work is not Work.NOTHING:
        said.append(f"{spent(night.spent.to_json())}.")
    return [sentence for sentence in said if sentence]


def spent(values: Mapping[str, Any]) -> str:
    """What a night cost, in a phrase.

    >>> spent({"lm_calls": 12, "lm_calls_cached": 3, "cost_usd": 0.0, "seconds": 75.0})
    '12 LM calls (+3 from the ledger), $0, 1:15'
    """
    return f"{calls(values)}, {dollars(values.get('cost_usd'))}, {clock(values.get('seconds', 0.0))}"


def _about_rows(night: Night) -> str:
    taken = night.taken
    joined = [f"{count:,} new rows joined {name}" for name, count in taken.accepted.items()]
    aside = f"{len(taken.refused):,} were set aside" if taken.refused else ""
    alike = f"{taken.alike:,} of them nearly stood there already" if taken.alike else ""
    said = ", ".join(filter(None, (*joined, alike, aside)))
    return f"{said[0].upper()}{said[1:]}." if said else ""


def _about_search(search: Search) -> str:
    best = f"best {search.best_stage}, dev {percent(search.dev_score)}" if search.best_stage else "nothing judged"
    found = "found again" if search.earlier else search.status
    return f"{search.start[:1].upper()}{search.start[1:]}: run {search.run}, {found}, {best}."
