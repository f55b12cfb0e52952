"""What a pull request is held to: a ruling as a list of checks, for a build server and for who reads it.

Invariant: everything is read off one `Ruling`; JUnit, Markdown and JSON cannot disagree.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any
from xml.etree import ElementTree

from cascade.production.promoting.gate import Ruling
from cascade.redaction import redacted
from cascade.spending import amount


@dataclass(frozen=True)
class Check:
    """One thing that was asked.

    Args:
        name: `score`, `max-cost`, or a guardrail's.
        passed: whether it holds.
        said: a sentence with the figures.
    """

    name: str
    passed: bool
    said: str


def checks(ruling: Ruling, max_cost: float | None = None) -> list[Check]:
    """The score first, then the cap on what serving an example may cost, then the guardrails.

    Args:
        max_cost: of one example on the mean, in the unit of the ruling's: dollars where prices are known, else tokens.
    """
    found = [Check("score", ruling.passed, ruling.reason)]
    if max_cost is not None:
        found.append(_capped(ruling, max_cost))
    return found + [Check(guard.name, guard.held, f"{guard}.") for guard in ruling.guardrails]


def _capped(ruling: Ruling, max_cost: float) -> Check:
    if ruling.serving is None:
        return Check("max-cost", False, "What serving an example costs is not known. Give its LM a price in settings.")
    cost, unit = ruling.serving.candidate, ruling.serving.unit
    held = cost <= max_cost
    said = f"Serving an example costs {amount(cost, unit)}, {'at most' if held else 'more than'} {max_cost:g}."
    return Check("max-cost", held, said)


def junit(name: str, found: Sequence[Check]) -> str:
    """JUnit's XML: a test case a check.

    Args:
        name: of the experiment.
    """
    failures = sum(not check.passed for check in found)
    suite = ElementTree.Element("testsuite", name=f"cascade {name}", tests=str(len(found)), failures=str(failures))
    for check in found:
        case = ElementTree.SubElement(suite, "testcase", classname=f"cascade.{name}", name=check.name)
        place = case if check.passed else ElementTree.SubElement(case, "failure", message=_plain(check.said))
        if check.passed:
            ElementTree.SubElement(place, "system-out").text = _plain(check.said)
    ElementTree.indent(suite)
    return f"<?xml version='1.0' encoding='utf-8'?>\n{ElementTree.tostring(suite, encoding='unicode')}\n"


def summary(name: str, version: str, against: str, found: Sequence[Check], decisive: Sequence[Sequence[str]]) -> str:
    """A summary in Markdown for a pull request.

    Args:
        version, against: what was judged, and against what.
        decisive: examples won and lost: `won` or `lost`, id, answer before, answer now.
    """
    passed = all(check.passed for check in found)
    lines = [
        f"### {'✅' if passed else '❌'} `{name}`: {version} against {against}",
        "",
        "| check | | |",
        "|---|---|---|",
        *(
            f"| {_cell(check.name)} | {'passed' if check.passed else '**failed**'} | {_cell(check.said)} |"
            for check in found
        ),
    ]
    if decisive:
        lines += [
            "",
            "<details><summary>Examples won and lost</summary>",
            "",
            "| | id | before | now |",
            "|---|---|---|---|",
        ]
        lines += [f"| {' | '.join(_cell(cell) for cell in row)} |" for row in decisive]
        lines += ["", "</details>"]
    return "\n".join(lines) + "\n"


def decisive(ruling_sides: tuple[Any, Any], most: int = 20) -> list[tuple[str, str, str, str]]:
    """Examples on which challenger and reference differ most, lost ones first.

    Args:
        ruling_sides: evaluations of challenger and reference, on the same examples.
        most: rows.
    """
    new, old = ruling_sides
    pairs = [(one.score - other.score, one, other) for one, other in zip(new.outcomes, old.outcomes, strict=True)]
    differing = sorted((pair for pair in pairs if pair[0]), key=lambda pair: (pair[0] > 0, -abs(pair[0]), pair[1].id))
    return [("won" if by > 0 else "lost", one.id, _answer(other), _answer(one)) for by, one, other in differing[:most]]


def _answer(outcome: Any) -> str:
    return outcome.error or ", ".join(str(value) for value in outcome.predicted.values())


def _cell(text: str) -> str:
    """Text that stays in its cell, and shows as it is."""
    flat = " ".join(_plain(text).split())[:200]
    for character in "\\`*_|[]":
        flat = flat.replace(character, f"\\{character}")
    return flat.replace("<", "&lt;").replace("@", "&#64;")


def _plain(text: str) -> str:
    """What XML can hold of it, without secrets."""
    return "".join(character if character.isprintable() or character in "\n\t" else "�" for character in redacted(text))
