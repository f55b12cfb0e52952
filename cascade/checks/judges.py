"""Whether the judges of a metric were held against labelled answers, and what came of it.

Invariant: nobody is asked: what is told is what an earlier run found out.
"""

from collections.abc import Iterator

from cascade.check import Prepared
from cascade.checks.finding import Finding
from cascade.errors import CascadeError
from cascade.judges import judges_of


def judges(prepared: Prepared) -> Iterator[Finding]:
    """A finding for each judge: an error where it is known not to agree with the labels."""
    settings = prepared.lms.settings
    for judge in judges_of(prepared.experiment.metric.judge):
        place, model = f"Judge {judge.name!r}", prepared.lms.asked(judge.name).model
        try:
            held = judge.known(settings, model)
        except CascadeError as error:
            yield Finding("error", place, f"its labelled answers cannot be read: {error}")
            continue
        if held is None:
            said = f"{model} is first asked about {judge.answers(settings)} labelled answers of {judge.labelled.name!r}"
            asked = f"judges only if the lower bound of kappa is at least {judge.at_least:.2f}"
            yield Finding("note", place, f"not held against labels yet: {said}, and {asked}.")
        elif held.kappa_low < judge.at_least:
            yield Finding("error", place, judge.refusal(held, model).removeprefix(f"{place} "))
        else:
            yield Finding("note", place, f"{model} agrees with {held}; at least {judge.at_least:.2f} is asked.")
