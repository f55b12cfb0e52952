"""What is expected of a program: the fields of a row that hold it, and how often each answer is.

Invariant: inputs, ids and groups are no answers; an expected answer has the type that the program would give it.
"""

from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any, Union

from cascade.check import Prepared
from cascade.checks.finding import Finding, quoted
from cascade.dataset import Data, Split
from cascade.rows import Row

MOST_LABELS = 500
"""Different answers up to which they are taken for labels, if each stands in two rows on average."""
ONE_SIDED = 0.8
"""Share of one label above which a split says little about the others."""
_OF_DSPY = frozenset(("reasoning", "trajectory"))
"""Fields that `ChainOfThought` and `ReAct` add to a program's outputs; no row holds them."""


@dataclass(frozen=True)
class Expected:
    """How rows become the predictions that are wanted.

    Args:
        inputs: fields that the program is given.
        fields: of a row that are neither input nor id nor group.
        field_of: the row's field by output of the program, where one can be told.
        annotation: the type of each output: what any predictor with an output of this name may give.
        missing: outputs for which rows hold nothing.
        example: makes a `dspy.Example` of a row, its fields in the types that the program declares.
    """

    inputs: tuple[str, ...]
    fields: tuple[str, ...]
    field_of: Mapping[str, str]
    annotation: Mapping[str, Any]
    missing: tuple[str, ...]
    example: Callable[[Row], Any]

    @property
    def complete(self) -> bool:
        """Whether rows hold every output under its own name."""
        return bool(self.field_of) and not self.missing and all(name == held for name, held in self.field_of.items())

    @property
    def compared(self) -> tuple[str, ...]:
        """Fields of a row that say what is expected: those of outputs, or all where none can be told."""
        return tuple(self.field_of.values()) or self.fields

    def changed(self, row: Row) -> str:
        """How a row's answer changes when the program gives it, such as a number that rows hold as text; else ""."""
        try:
            given, example = self.outputs(row), self.example(row)
        except Exception:  # `impossible` tells of it
            return ""
        for output, name in self.field_of.items():
            held, answer = example[name], given[output]
            if type(held) is not type(answer):
                return (
                    f"The program gives {output} = {quoted(answer)} ({type(answer).__name__}), the row holds "
                    f"{quoted(held)} ({type(held).__name__}): make them the same."
                )
        return ""

    def outputs(self, row: Row) -> dict[str, Any]:
        """What a program that is right would return for this row; raises what a wrong type makes DSPy raise."""
        from dspy.adapters.utils import parse_value

        wanted = {
            output: None if row[name] is None else parse_value(row[name], self.annotation[output])
            for output, name in self.field_of.items()
        }
        return {**dict.fromkeys(_OF_DSPY, ""), **{name: row[name] for name in self.fields}, **wanted}


def expected(prepared: Prepared) -> Expected:
    """Match outputs to fields by name; where there is one of each, they belong together."""
    split, group = prepared.data.train, _group(prepared)
    fields = tuple(name for name in split.rows[0] if name not in (*split.inputs, "id", group))
    annotation: dict[str, Any] = {}
    for predictor in prepared.program.predictors():
        for name, field in predictor.signature.output_fields.items():  # steps of two routes may share a name
            kind = field.annotation
            annotation[name] = Union[annotation[name], kind] if name in annotation else kind  # noqa: UP007 - of values
    field_of = {name: name for name in annotation if name in fields}
    missing = [name for name in prepared.outputs if name not in (*fields, *_OF_DSPY)]
    if not field_of and len(missing) == len(fields) == len(prepared.program.predictors()) == 1:
        field_of, missing = {missing[0]: fields[0]}, []
    files = {name: known for one in prepared.data for name, known in one.files.items()}
    example = replace(split, files=files).example
    return Expected(split.inputs, fields, field_of, annotation, tuple(missing), example)


def names(prepared: Prepared, wanted: Expected) -> Iterator[Finding]:
    """Outputs that no field of the rows is named after."""
    place = f"Program {getattr(prepared.experiment.program, '__name__', '')}"
    renamed = [(output, name) for output, name in wanted.field_of.items() if output != name]
    for output, name in renamed:
        yield Finding(
            "warning",
            place,
            f"its output is {output!r}, but the rows of dataset {prepared.data.name!r} hold {name!r}: as demos and as "
            "training rows they show no answer. Rename one.",
        )
    if wanted.missing and wanted.fields:
        alone = len(prepared.program.predictors()) == 1 and not wanted.field_of
        yield Finding(
            "warning" if alone else "note",
            place,
            f"its output {wanted.missing[0]!r} is no field of the rows of dataset {prepared.data.name!r}. "
            f"Found: {', '.join(wanted.fields)}. Rename one if they mean the same.",
        )


def impossible(data: Data, wanted: Expected) -> Iterator[Finding]:
    """Expected answers that the program's output can never be."""
    for split in data:
        wrong = [number for number, row in enumerate(split.rows) if not _possible(row, wanted)]
        if wrong:
            row, id_ = split.rows[wrong[0]], split.ids[wrong[0]]
            held = {name: row[name] for name in wanted.field_of.values()}
            shown = next(iter(held.values())) if len(held) == 1 else held
            types = ", ".join(f"{name!r} ({_type(wanted.annotation[name])})" for name in wanted.field_of)
            yield Finding(
                "warning",
                f"Dataset {data.name!r}, split {split.name!r}",
                f"{len(wrong):,} of {len(split):,} rows expect what the output {types} cannot be, first {id_!r}: "
                f"{quoted(shown)}. Correct the rows, or the signature.",
            )


def balance(data: Data, wanted: Expected) -> Iterator[Finding]:
    """How often each label is, where answers are few."""
    for name in wanted.field_of.values():
        counts = {split.name: Counter(map(str, (row[name] for row in split.rows))) for split in data}
        known = set[str]().union(*counts.values())
        if len(known) > min(MOST_LABELS, sum(map(len, data)) / 2):
            continue
        for split in (data.dev, data.test):
            yield from _one_sided(split, name, counts[split.name], data.name)
            unseen = sorted(set(counts[split.name]) - set(counts["train"]))
            if unseen:
                rows = sum(counts[split.name][label] for label in unseen)
                listed = ", ".join(quoted(label) for label in unseen[:3]) + (", …" if len(unseen) > 3 else "")
                yield Finding(
                    "warning",
                    f"Dataset {data.name!r}, split {split.name!r}",
                    f"{rows:,} of {len(split):,} rows expect {name} = {listed}, which no row of train shows. "
                    "Add such rows to train.",
                )


def _one_sided(split: Split, name: str, counts: "Counter[str]", dataset: str) -> Iterator[Finding]:
    label, most = counts.most_common(1)[0]
    share = most / len(split)
    told = f"always answering {name} = {quoted(label)} would be right on {share:.0%}"
    place = f"Dataset {dataset!r}, split {split.name!r}"
    if share > ONE_SIDED:
        fix = "Add rows with other answers, or weigh them in the metric."
        yield Finding("warning", place, f"{told}: little is left to show. {fix}")
    else:
        yield Finding("note", place, f"{told} of it ({len(counts)} answers).")


def _possible(row: Row, wanted: Expected) -> bool:
    try:
        wanted.outputs(row)
    except Exception:
        return False
    return True


def _type(annotation: Any) -> str:
    text = annotation.__name__ if isinstance(annotation, type) else str(annotation).replace("typing.", "")
    return text if len(text) <= 80 else f"{text[:80]}…"


def _group(prepared: Prepared) -> str | None:
    return prepared.experiment.dataset.group or prepared.data.info.get("group")
