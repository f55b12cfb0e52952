"""A predictor that shows, for every question, the examples that are most like it.

A small model copies what it sees, so which demos it sees matters more than the instruction. The rows and how they are
searched are part of the predictor's state, as JSON. Invariant: a row never sees itself, so a program may be run on
the rows that it holds; and the same state shows the same demos everywhere.
"""

import copy
import importlib
import math
import re
from collections import Counter, defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import cached_property, lru_cache
from typing import Any, Literal

import dspy
import numpy as np

from cascade.errors import ExperimentError
from cascade.fields import plain, shortened

Order = Literal["rows", "last", "first"]
ORDERS: tuple[Order, ...] = ("rows", "last", "first")
"""How the nearest rows are shown: in the order in which the index holds them (prompts share most of their beginning,
which a prefix cache then knows), the nearest one last, or the nearest one first."""
STATE = "nearest"


@dataclass(frozen=True, eq=False)
class Index:
    """Rows, and how the nearest of them are found and shown.

    Args:
        rows: input and output fields of one predictor, JSON values.
        inputs: the fields by which rows are compared.
        k: how many are shown.
        order: how they are shown.
        embedder: model string of `dspy.Embedder`, or `module:function` of a function of texts that returns a vector
            a text; "" compares letters by BM25, without a model.
        vectors: the rows' embeddings, of length 1; empty with BM25.
    """

    rows: tuple[Mapping[str, Any], ...]
    inputs: tuple[str, ...]
    k: int
    order: Order = "rows"
    embedder: str = ""
    vectors: tuple[tuple[float, ...], ...] = ()

    def __deepcopy__(self, memo: dict[int, Any]) -> "Index":
        return self

    def to_json(self) -> dict[str, Any]:
        """Plain values."""
        return {**asdict(self), "rows": [dict(row) for row in self.rows], "vectors": [list(v) for v in self.vectors]}

    @classmethod
    def from_json(cls, said: Mapping[str, Any]) -> "Index":
        """What `to_json` gave."""
        vectors = tuple(tuple(vector) for vector in said["vectors"])
        return cls(**{**said, "rows": tuple(said["rows"]), "inputs": tuple(said["inputs"]), "vectors": vectors})

    def nearest(self, inputs: Mapping[str, Any]) -> list[Mapping[str, Any]]:
        """The `k` rows that are most like these inputs, but never a row with the same inputs."""
        said = {name: plain(inputs.get(name)) for name in self.inputs}  # as the rows hold it
        asked = [said[name] for name in self.inputs]
        scores = self._scores(text_of(said, self.inputs))
        by_score = sorted(range(len(self.rows)), key=lambda row: (-scores[row], row))
        others = (row for row in by_score if [self.rows[row].get(name) for name in self.inputs] != asked)
        found = [row for row, _ in zip(others, range(self.k), strict=False)]
        shown = {"rows": sorted(found), "first": found, "last": found[::-1]}[self.order]
        return [self.rows[row] for row in shown]

    def _scores(self, text: str) -> Sequence[float]:
        if not self.embedder:
            return self._letters.scores(text)
        return list(self._matrix @ np.array(_asked(self.embedder, text)))

    @cached_property
    def _matrix(self) -> Any:
        return np.array(self.vectors)

    @cached_property
    def _letters(self) -> "BM25":
        return BM25([text_of(row, self.inputs) for row in self.rows])


class NearestPredict(dspy.Predict):  # type: ignore[misc]
    """A `dspy.Predict` that adds the nearest rows of its index to its demos, after them."""

    nearest: Index | None = None

    def forward(self, **inputs: Any) -> Any:
        """As its base, with the demos for these inputs."""
        return super().forward(**{"demos": self.demos_for(inputs), **inputs})

    async def aforward(self, **inputs: Any) -> Any:
        """As its base, with the demos for these inputs."""
        return await super().aforward(**{"demos": self.demos_for(inputs), **inputs})

    def demos_for(self, inputs: Mapping[str, Any]) -> list[Any]:
        """All demos that it shows for these inputs."""
        return [*self.demos, *(self.nearest.nearest(inputs) if self.nearest else ())]

    def dump_state(self, json_mode: bool = True) -> dict[str, Any]:
        """As its base, and the index."""
        state: dict[str, Any] = super().dump_state(json_mode)
        return {**state, STATE: self.nearest.to_json()} if self.nearest else state

    def load_state(self, state: dict[str, Any], *, allow_unsafe_lm_state: bool = False) -> "NearestPredict":
        """What `dump_state` gave."""
        super().load_state(state, allow_unsafe_lm_state=allow_unsafe_lm_state)
        self.nearest = Index.from_json(state[STATE]) if STATE in state else None
        return self


def give(predictor: Any, index: Index) -> None:
    """Make a plain predictor show the nearest rows of an index, where it stands in its program."""
    predictor.__class__ = NearestPredict
    predictor.nearest = index


def revive(program: Any) -> Any:
    """Give a program's plain predictors the indices that their loaded state holds; returns the program.

    `dspy.Predict.load_state` keeps what it does not know as an attribute. Needed after `program.load(file)` of a
    program that its class has just made; `cascade.program.restore` does it itself.
    """
    for predictor in program.predictors():
        if isinstance(said := vars(predictor).get(STATE), Mapping):
            give(predictor, Index.from_json(said))
    return program


def as_shown(predictor: Any, inputs: Mapping[str, Any]) -> Any:
    """The predictor as a plain one, whose demos are those that it shows for these inputs."""
    if not isinstance(predictor, NearestPredict):
        return predictor
    twin = copy.copy(predictor)
    twin.demos, twin.nearest, twin.__class__ = predictor.demos_for(inputs), None, dspy.Predict
    return twin


def text_of(fields: Mapping[str, Any], names: Sequence[str]) -> str:
    """What is compared of a row or of a question; of an image its hash, which is like itself alone."""
    return "\n".join(str(shortened(fields[name])) for name in names if fields.get(name) is not None)


def embed(embedder: str, texts: Sequence[str]) -> list[tuple[float, ...]]:
    """Vectors of length 1, rounded to 6 places.

    Raises:
        ExperimentError: `embedder` names a function that is not there.
    """
    return [_unit(vector) for vector in _embedder(embedder)(list(texts))]


@lru_cache(maxsize=10_000)
def _asked(embedder: str, text: str) -> tuple[float, ...]:
    """The same question is asked under several numbers of demos, and no ledger keeps embeddings."""
    return embed(embedder, [text])[0]


def function_in(state: Any) -> str:
    """The function that a predictor's state names as embedder, or ""."""
    said = state.get(STATE) if isinstance(state, Mapping) else None
    embedder = said.get("embedder") if isinstance(said, Mapping) else ""
    return embedder if isinstance(embedder, str) and is_function(embedder) else ""


def is_function(embedder: str) -> bool:
    """Whether an embedder is a function, `module:function`, and no model string, which always holds a slash."""
    return ":" in embedder and "/" not in embedder


def _embedder(name: str) -> Callable[[list[str]], Any]:
    found: Callable[[list[str]], Any]
    if not is_function(name):
        found = dspy.Embedder(name)
        return found
    module, _, function = name.partition(":")
    try:
        found = dspy.Embedder(getattr(importlib.import_module(module), function), caching=False)
    except (ImportError, AttributeError):
        raise ExperimentError(f"Embedder {name!r} cannot be imported. Put the function into a package.") from None
    return found


def _unit(vector: Sequence[float]) -> tuple[float, ...]:
    length = math.sqrt(sum(float(x) ** 2 for x in vector)) or 1.0
    return tuple(round(float(x) / length, 6) for x in vector)


class BM25:
    """Okapi BM25 (Robertson and Zaragoza, 2009) over pieces of words of three and four letters.

    Pieces, because word endings and slips of the pen do not matter to them, and languages without spaces have no words.
    """

    def __init__(self, texts: Sequence[str], k1: float = 1.2, b: float = 0.75) -> None:
        counted = [Counter(_pieces(text)) for text in texts]
        self._n = len(texts)
        usual = sum(counts.total() for counts in counted) / max(self._n, 1) or 1.0
        held_by = Counter(piece for counts in counted for piece in counts)
        self._weights: dict[str, list[tuple[int, float]]] = defaultdict(list)
        for row, counts in enumerate(counted):
            room = k1 * (1 - b + b * counts.total() / usual)
            for piece, times in counts.items():
                rare = math.log(1 + (self._n - held_by[piece] + 0.5) / (held_by[piece] + 0.5))
                self._weights[piece].append((row, rare * times * (k1 + 1) / (times + room)))

    def scores(self, text: str) -> list[float]:
        """One a text of the index, in their order; 0 where nothing is shared."""
        scores = [0.0] * self._n
        for piece in dict.fromkeys(_pieces(text)):  # in the text's order: sums of floats depend on it
            for row, weight in self._weights.get(piece, ()):
                scores[row] += weight
        return scores


def _pieces(text: str) -> list[str]:
    words = [f" {word} " for word in re.findall(r"\w+", text.lower())]
    return [word[at : at + size] for word in words for size in (3, 4) for at in range(len(word) - size + 1)]
