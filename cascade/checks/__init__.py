"""What is wrong with data, metric and definition, found before anything is spent.

Invariant: no LM is called and looking writes nothing; checks are functions of values that return findings.
"""

from collections.abc import Sequence

from cascade.check import Prepared
from cascade.checks import answers, rows
from cascade.checks.cheaper import cheaper
from cascade.checks.finding import SEVERITIES, Finding
from cascade.checks.judges import judges
from cascade.checks.judging import judging
from cascade.checks.programs import program, project_files, returned
from cascade.checks.stages import stages
from cascade.errors import DefinitionError
from cascade.journal import Journal
from cascade.lm.named import offering
from cascade.progress import Progress

DRAWS = "LM 'task'"
"""Place of the note that a run begins with: what repeats and the ledger mean for answers that are drawn."""

__all__ = ["Finding", "examine", "refuse", "tell"]


def examine(prepared: Prepared) -> list[Finding]:
    """All findings about an experiment, errors first."""
    with offering(prepared.lms):
        return _examined(prepared)


def _examined(prepared: Prepared) -> list[Finding]:
    data, wanted = prepared.data, answers.expected(prepared)
    held = tuple(wanted.field_of.values())
    found = [
        *rows.overlap(data),
        *rows.repeated(data, held),
        *rows.gaps(data, held),
        *rows.sizes(data),
        *answers.names(prepared, wanted),
        *answers.impossible(data, wanted),
        *answers.balance(data, wanted),
        *judging(prepared.experiment.metric, data, wanted, prepared.lms["task"], returned=returned(prepared)),
        *judges(prepared),
        *program(prepared),
        *project_files(prepared),
        *stages(prepared),
        *cheaper(prepared),
    ]
    if prepared.about_draws:
        found.append(Finding("note", DRAWS, prepared.about_draws))
    return sorted(found, key=lambda finding: SEVERITIES.index(finding.severity))


def refuse(found: Sequence[Finding]) -> None:
    """Stop where there is an error.

    Raises:
        DefinitionError: the first error, and how many more there are.
    """
    errors = [finding for finding in found if finding.severity == "error"]
    if errors:
        more = f" ({len(errors) - 1} more: `cascade check` lists them.)" if len(errors) > 1 else ""
        raise DefinitionError(f"{errors[0]}{more}")


def tell(found: Sequence[Finding], journal: Journal, progress: Progress) -> None:
    """Warn who watches a run that begins, say what drawing means for it, and keep all findings in its journal."""
    journal.write("findings.json", [finding.to_json() for finding in found])
    for finding in found:
        if finding.severity == "warning":
            progress.warn(str(finding))
        elif finding.place == DRAWS:
            progress.tell(finding.sentence)
