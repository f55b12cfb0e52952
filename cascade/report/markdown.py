"""The same documents as Markdown, for a pull request or a wiki.

Invariant: text that a model wrote stands in a fence that is longer than any in it, or is escaped, so that it forms no
markup.
"""

import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from cascade.report import cells
from cascade.report.comparing import SideBySide
from cascade.report.document import comparison_document, run_document
from cascade.report.figures import UNKNOWN, counted, many_compared
from cascade.report.reading import Run
from cascade.report.text import clean, in_line

MOST = 10
"""Examples won, and examples lost, that are shown."""
_MARKUP = re.compile(r"([\\`*_\[\]<>|#~&$])")


def run_markdown(run: Run) -> str:
    """The report of one run."""
    told = run_document(run)
    stages = table(cells.STAGE, map(cells.stage_row, told["stages"]))
    reasons = [f"- **{escaped(stage['stage'])}**: {escaped(stage['reason'])}" for stage in told["stages"][1:]]
    parts = [
        f"# {escaped(told['experiment'])}, run {escaped(told['run'])}",
        f"**{escaped(told['headline'])}**",
        "\n".join(f"- {escaped(sentence)}" for sentence in told["story"]),
        f"## Stages\n\n{stages}" if told["stages"] else "",
        "\n".join(reasons),
        f"## Parts of the metric\n\n{table(cells.PART, map(cells.part_row, told['metric_parts']))}"
        if told["metric_parts"]
        else "",
        f"## Prompts of the best program\n\n{_prompts(told, 'the baseline')}" if told["best_stage"] else "",
        "## Examples won and lost" if told["won"] or told["lost"] else "",
        _examples(told),
        "## Cost",
        table(cells.SPENT, map(cells.spent_row, cells.spent_rows(told))),
        "## Data and definition",
        _definition(told),
    ]
    return _joined(parts)


def comparison_markdown(compared: SideBySide) -> str:
    """The report of runs side by side."""
    told = comparison_document(compared)
    points = [cells.point_row(point, compared.unit) for point in compared.points]
    left_out = ", ".join(compared.left_out)
    parts = [
        f"# {escaped(told['experiment'])}: {counted(len(told['runs']), told['of'])} side by side",
        table(*cells.side_by_side(told)),
        "## Verdicts",
        *(text for pair in told["pairs"] for text in _pair(pair)),
        many_compared(compared.earlier),
        "## What an example takes",
        table(cells.SERVING, map(cells.serving_row, told["serving"])),
        "## Parts of the metric" if told["metric_parts"] else "",
        table(cells.PARTS, map(cells.part_row, told["metric_parts"])) if told["metric_parts"] else "",
        "## What differs",
        _differences(told),
        "## Score against serving cost" if points else "",
        table(cells.POINT, points) if points else "",
        f"Left out, judged on other rows or by another metric: {escaped(left_out)}." if left_out else "",
    ]
    return _joined(parts)


def escaped(text: object) -> str:
    r"""A text in one line that Markdown and HTML take for text.

    >>> escaped("<b>*no*</b>")
    '\\<b\\>\\*no\\*\\</b\\>'
    """
    return _MARKUP.sub(r"\\\1", in_line(str(text)))


def fenced(lines: Iterable[str], kind: str = "") -> str:
    """Lines in a fence that none of them can close."""
    text = clean("\n".join(lines))
    longest = max(map(len, re.findall(r"`+", text)), default=0)
    fence = "`" * max(3, longest + 1)
    return f"{fence}{kind}\n{text}\n{fence}"


def table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A table; cells are escaped."""
    marks = ["---:" if name in cells.RIGHT else "---" for name in head]
    lines = [[escaped(cell) for cell in row] for row in (head, *rows)]
    return "\n".join(f"| {' | '.join(line)} |" for line in (lines[0], marks, *lines[1:]))


def _prompts(told: Mapping[str, Any], reference: str) -> str:
    return fenced(told["prompts_diff"], "diff") if told["prompts_diff"] else f"The same as those of {reference}."


def _examples(told: Mapping[str, Any]) -> str:
    if not told["won"] and not told["lost"]:
        return ""
    counts = f"{counted(len(told['won']), 'example')} won, {len(told['lost']):,} lost, {told['level']:,} level, on dev."
    rows = [_change(word, change) for word in ("lost", "won") for change in told[word][:MOST]]
    return f"{counts}\n\n{table(('', 'id', 'input', 'expected', 'before', 'after'), rows)}"


def _change(word: str, change: Mapping[str, Any]) -> list[str]:
    answers = [
        in_line(f"failed: {given['error']}" if given["error"] else given["predicted"], 80)
        for given in (change["before"], change["after"])
    ]
    return [word, change["id"], in_line(change["input"], 120), in_line(change["expected"], 80), *answers]


def _definition(told: Mapping[str, Any]) -> str:
    names = ("rows", "fingerprint", "source")
    splits = [[split, *(str(one.get(name, UNKNOWN)) for name in names)] for split, one in told["splits"].items()]
    facts = {name.replace("_", " "): told[name] for name in ("dataset", "signature", "git_sha", "seed")}
    facts |= {f"LM {name}": model for name, model in told["lms"].items()}
    lines = "\n".join(f"- {escaped(name)}: {escaped(value or UNKNOWN)}" for name, value in facts.items())
    return f"{table(('split', *names), splits)}\n\n{lines}"


def _pair(pair: Mapping[str, Any]) -> list[str]:
    return [
        f"### {escaped(pair['after'])} against {escaped(pair['before'])}",
        "\n".join(f"- {escaped(pair[split]['says'])}" for split in ("dev", "test")),
        f"Prompts:\n\n{_prompts(pair, 'the other run')}",
        _examples(pair),
    ]


def _differences(told: Mapping[str, Any]) -> str:
    if not told["differences"]:
        return "Nothing: the same definition, data, LMs and parameters."
    rows = [[name, *values] for name, values in told["differences"].items()]
    return table(("", *(run["run"] for run in told["runs"])), rows)


def _joined(parts: Iterable[str]) -> str:
    return "\n\n".join(part for part in parts if part) + "\n"
