"""The files of an experiment that begins: metric, then data, then the simplest program.

Invariant: nothing is written here, and the same rows and seed make the same files.
"""

import json
import keyword
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from cascade.dataset import SPLITS
from cascade.development.dividing import SHARES, annotation, divide
from cascade.development.kinds import KINDS, PLAIN
from cascade.errors import DatasetError, ExperimentError
from cascade.rows import Row, read_rows

_HINTS = {
    "labels": "A label is right or wrong: `return prediction.{0} == example.{0}`.",
    "text": "1 where {0} could not be better, 0 where it is useless; `Score(value, feedback=…, parts=…)` says why.",
}

_OF_PREDICT = frozenset(("signature", "demos", "config", "lm", "new_signature"))
"""What `dspy.Predict` takes for itself out of its inputs."""
_IN_FILE = frozenset(("self", "dspy", "str", "int", "float", "bool", "list", "dict"))
"""Names that the class of the signature needs, so that no field of it can have them."""
_IMPORTED = frozenset(("Budget", "Dataset", "Experiment", "Literal"))
"""Names beginning with a capital that the file has without those of its design."""


@dataclass(frozen=True)
class Wish:
    """What is to be made.

    Args:
        name: of the experiment and its dataset.
        inputs, outputs: fields; their types follow from the rows, and are text without any.
        group: field that says which rows belong together.
        source: rows, as `cascade.rows` reads them; "" for a dataset that is filled by hand.
        seed: of the division into splits.
    """

    name: str
    inputs: Sequence[str] = ("question",)
    outputs: Sequence[str] = ("answer",)
    kind: str = PLAIN
    group: str | None = None
    source: str = ""
    seed: int = 0


@dataclass(frozen=True)
class Plan:
    """Files by path in the project, with their text, and what is to be told of them."""

    files: Mapping[str, str]
    told: Sequence[str] = field(default_factory=tuple)


def plan(wish: Wish, project: Path) -> Plan:
    """What would be written; reads the source and writes nothing.

    Raises:
        ExperimentError: a name or a field that Python does not take, or a kind that there is not.
        DatasetError: the source cannot be read, lacks a field or is too small.
    """
    _check(wish)
    rows = read_rows(wish.source, project, f"--from {wish.source}") if wish.source else []
    if wish.source and not rows:
        raise DatasetError(f"--from {wish.source} has no rows. Add some, or leave --from out.")
    _check_fields(wish, rows)
    types = {name: annotation([row[name] for row in rows]) if rows else "str" for name in (*wish.inputs, *wish.outputs)}
    inputs = {name: kind if isinstance(kind, str) else "str" for name, kind in types.items() if name in wish.inputs}
    outputs = {name: kind for name, kind in types.items() if name in wish.outputs}
    folder = f"datasets/{wish.name}"
    files = {f"{folder}/dataset.toml": _toml(wish), f"{folder}/README.md": _readme(wish)}
    told = []
    if rows:
        kept = [name for name in dict.fromkeys(("id", wish.group or "", *types)) if name in rows[0]]
        label = next((name for name, kind in outputs.items() if not isinstance(kind, str)), "")
        splits = divide(rows, wish.inputs, group=wish.group, label=label, seed=wish.seed)
        files |= {f"{folder}/{name}.jsonl": _lines(splits[name], kept) for name in SPLITS}
        told = _told(wish, splits, [name for name in rows[0] if name not in kept])
        told += [f"{name} is one of {len(kind)} labels." for name, kind in outputs.items() if not isinstance(kind, str)]
    return Plan({**files, f"experiments/{wish.name}.py": _experiment(wish, inputs, outputs)}, told)


def _check(wish: Wish) -> None:
    if not wish.name.isidentifier() or keyword.iskeyword(wish.name) or wish.name.startswith("_"):
        raise ExperimentError(
            f"{wish.name!r} is no name of an experiment, which is also that of a Python file. Use letters, digits and "
            "underscores, a letter first."
        )
    if wish.kind not in KINDS:
        raise ExperimentError(f"--kind {wish.kind}: there is no such kind. Kinds: {', '.join(KINDS)}.")
    for option, names in (("--inputs", wish.inputs), ("--outputs", wish.outputs)):
        for name in names:
            if not name.isidentifier() or keyword.iskeyword(name):
                raise ExperimentError(f"{option} {name}: no name of a field. Use letters, digits and underscores.")
            if _means_something(name):
                raise ExperimentError(
                    f"{option} {name}: no name of a field, because Python or DSPy means something else by it. Rename "
                    "it, in the rows too."
                )
        if len(set(names)) < len(names):
            raise ExperimentError(f"{option} {','.join(names)} names a field twice. Name each once.")
    twice = set(wish.inputs) & {*wish.outputs, *KINDS[wish.kind].own} or set(wish.outputs) & set(KINDS[wish.kind].own)
    if twice or not wish.inputs or not wish.outputs:
        why = f"field {min(twice)!r} would mean two things in a {wish.kind}" if twice else "no input or no output"
        raise ExperimentError(f"{wish.name}: {why}. Rename it, or choose other fields with --inputs and --outputs.")


def _means_something(field: str) -> bool:
    import dspy

    ours = field.startswith("_") or field in _OF_PREDICT | _IN_FILE
    return ours or hasattr(dspy.Signature, field) or hasattr(dspy.Prediction, field)


def _check_fields(wish: Wish, rows: Sequence[Row]) -> None:
    needed = (*wish.inputs, *wish.outputs, *([wish.group] if wish.group else []))
    for number, row in enumerate(rows, 1):
        for name in needed:
            if name not in row:
                raise DatasetError(
                    f"--from {wish.source}, row {number} has no field {name!r}. Found: {', '.join(row)}. "
                    "Say which they are: --inputs …, --outputs …, --group …"
                )


def _experiment(wish: Wish, inputs: Mapping[str, str], outputs: Mapping[str, Any]) -> str:
    from jinja2 import Environment, FileSystemLoader, StrictUndefined

    kind = KINDS[wish.kind]
    labels = {name: values for name, values in outputs.items() if not isinstance(values, str)}
    aliases = {_alias(name): [json.dumps(one, ensure_ascii=False) for one in values] for name, values in labels.items()}
    environment = Environment(
        loader=FileSystemLoader(Path(__file__).parent / "templates"), undefined=StrictUndefined, trim_blocks=True,
        keep_trailing_newline=False,
    )  # fmt: skip
    text = environment.get_template("experiment.py.jinja").render(
        name=wish.name,
        title=_title(wish.name, {*_IMPORTED, *kind.uses, *aliases}),
        kind=wish.kind,
        uses=kind.uses,
        other=f"{kind.factory}_{wish.name}" if kind.factory else "Another",
        inputs=dict(inputs),
        first=next(iter(inputs)),
        outputs={name: kind if isinstance(kind, str) else _alias(name) for name, kind in outputs.items()},
        aliases=aliases,
        typing=bool(aliases),
        fields=", ".join(f"{name}: {type_}" for name, type_ in inputs.items()),
        declared=", ".join(f"{name}: {type_}" for name, type_ in inputs.items()),
        passed=", ".join(f"{name}={name}" for name in inputs),
        judged="bool" if len(labels) == len(outputs) else "float",
        hint=_HINTS["labels" if labels else "text"].format(next(iter(labels or outputs))),
    )  # fmt: skip
    return text.strip("\n") + "\n"


def _toml(wish: Wish) -> str:
    lines = {
        "description": "What a row is, in a sentence",
        "source": Path(wish.source).name if wish.source else "Where the rows come from",
        "licence": "Who may use them",
        "inputs": list(wish.inputs),
        **({"group": wish.group} if wish.group else {}),
    }
    return "".join(f"{name} = {json.dumps(value, ensure_ascii=False)}\n" for name, value in lines.items())


def _readme(wish: Wish) -> str:
    row = json.dumps(
        dict.fromkeys((*([wish.group] if wish.group else []), *wish.inputs, *wish.outputs), "…"), ensure_ascii=False
    )
    return f"""# {wish.name}

One JSON object a line, in `train.jsonl`, `dev.jsonl` and `test.jsonl`:

    {row}

Optimizers learn from train, decisions are made on dev, and test proves. No row and no group stands in two of them.

## How the rows came to be

{_origin(wish)}

## Known limits
"""  # fmt: skip


def _origin(wish: Wish) -> str:
    if not wish.source:
        return "Who wrote them, from what, and who checked the answers."
    what = f"values of `{wish.group}`" if wish.group else "rows, spread by their answer where that is a label"
    shares = ", ".join(f"{share:.0%}" for share in SHARES)
    return f"Out of `{Path(wish.source).name}`, divided by `cascade new` with seed {wish.seed}: {shares} of the {what}."


def _title(name: str, taken: set[str]) -> str:
    """The name of the signature's class, which must not hide another that the file needs."""
    title = "".join(part.capitalize() for part in name.split("_"))
    return f"{title}Task" if title in taken else title


def _alias(name: str) -> str:
    return f"{name.capitalize()}Label"


def _lines(rows: Sequence[Row], kept: Sequence[str]) -> str:
    found = ({name: row[name] for name in kept if name in row} for row in rows)
    return "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in found)


def _told(wish: Wish, splits: Mapping[str, Sequence[Row]], left_out: Sequence[str]) -> list[str]:
    counts = ", ".join(f"{name} {len(rows)}" for name, rows in splits.items())
    by = f"by {wish.group}" if wish.group else "by row"
    told = [f"Divided {by} with seed {wish.seed}: {counts}."]
    return [*told, f"Left out, neither input nor output: {', '.join(left_out)}."] if left_out else told
