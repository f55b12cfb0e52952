"""Judges: LM programs whose verdicts a metric may use once they were seen to agree with labels.

Invariant: no verdict is given before the judge was held against all labelled answers under the LM that gives it, and
none at all by one that does not agree with them.
"""

import hashlib
import json
import re
import threading
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import dspy
from dspy.utils.exceptions import AdapterParseError, ContextWindowExceededError

from cascade.agreement import Agreement, agreement
from cascade.dataset import Dataset, Split, load
from cascade.errors import MetricError
from cascade.lm.lms import LMs
from cascade.lm.named import LMS, lm_named
from cascade.program import snapshot
from cascade.settings import Settings, load_settings
from cascade.spending import USAGE, Usage
from cascade.threads import at_once

Verdict = Literal["right", "partly", "wrong"]


class Rubric(dspy.Signature):  # type: ignore[misc]
    """Judge the response by the reference.

    right: it says all that the reference says, in whatever words. partly: what it says is true, but something is
    missing. wrong: something it says is not what the reference says, or it says nothing.
    """

    question: str = dspy.InputField()
    reference: str = dspy.InputField()
    response: str = dspy.InputField()
    missing: str = dspy.InputField(desc="how much of the reference the response does not have, and which words")
    added: str = dspy.InputField(desc="how much of the response the reference does not have, and which words")
    verdict: Verdict = dspy.OutputField()


class RubricJudge(dspy.Module):  # type: ignore[misc]
    """A judge that is shown the question, a reference and the response, and says one of three words.

    How many words they do not share, and which, is told it too: a small model does not find out itself. It is a
    program like any other: an experiment over labelled answers makes a better one of it.
    """

    def __init__(self) -> None:
        super().__init__()
        self.judge = dspy.Predict(Rubric)

    def forward(self, question: str, reference: str, response: str) -> dspy.Prediction:
        """`verdict`."""
        wanted, said = _words(reference), _words(response)
        missing, added = _lacking(wanted, said), _lacking(said, wanted)
        return self.judge(question=question, reference=reference, response=response, missing=missing, added=added)


def _lacking(words: list[str], other: list[str]) -> str:
    """How many of the words the other side has not, in quarters, and which."""
    lacking = [word for word in words if word not in other]
    if not lacking:
        return "none"
    share = ("few", "some", "many", "most")[(4 * len(lacking) - 1) // len(words)]
    return f"{share}: {', '.join(lacking)}"


def _words(text: str) -> list[str]:
    """Each once, in the order of the text."""
    return list(dict.fromkeys(re.findall(r"\w+", text.lower())))


@dataclass(frozen=True)
class Judge:
    """A judge and the labelled answers that it has to agree with before it is heard.

    Args:
        name: of the LM that it asks, in settings; also the judge's.
        labelled: dataset with the judge's inputs and its output. Its test split is what the judge is held against: on
            train it may have been made, and on dev chosen.
        program: makes the judge.
        field: its output that is compared with the label, and that is the verdict.
        at_least: what the lower bound of kappa has to reach. Landis and Koch (1977) call more than .4 moderate and more
            than .6 substantial.
    """

    name: str
    labelled: Dataset
    program: Callable[[], Any] = RubricJudge
    field: str = "verdict"
    at_least: float = 0.4

    def __call__(self, **inputs: Any) -> Any:
        """The verdict on an answer.

        Raises:
            MetricError: the judge does not agree with the labels well enough; this ends a run.
        """
        settings, lm = _settings(), lm_named(self.name)
        held = self._held(settings, lm)
        if held.kappa_low < self.at_least:
            raise MetricError(self.refusal(held, lm.model))
        return self._ask(lm, inputs)

    def refusal(self, held: Agreement, model: str) -> str:
        """Why it may not judge, and what can be done."""
        return (
            f"Judge {self.name!r} ({model}) must not judge: it agrees with {held}; the lower bound of kappa has to be "
            f"{self.at_least:.2f}. Name a better LM, CASCADE_LM_{self.name.upper()}=…, or train one on the labels."
        )

    def known(self, settings: Settings, model: str) -> Agreement | None:
        """What an earlier comparison came to, of the same judge, labels and LM; asks nobody."""
        split = load(self.labelled, settings.project).test
        return self._recorded(settings.home, self._key(split, settings, model))

    def answers(self, settings: Settings) -> int:
        """How many labelled answers it is held against."""
        return len(load(self.labelled, settings.project).test)

    def _held(self, settings: Settings, lm: Any) -> Agreement:
        """From the record, or by asking it about all labelled answers; whoever comes meanwhile waits."""
        asked = json.dumps([lm.model, *_asked(settings, self.name)], default=str)
        here = (settings.home, self.name, self.labelled.name, self.field, self.program, asked)
        with _holding:
            if here not in _known:
                split = load(self.labelled, settings.project).test
                key = self._key(split, settings, lm.model)
                if (known := self._recorded(settings.home, key)) is None:
                    known = self._compare(split, lm)
                    self._record(settings.home, key, known)
                _known[here] = known
            return _known[here]

    def _compare(self, split: Split, lm: Any) -> Agreement:
        def verdict(row: Mapping[str, Any]) -> Any:
            try:
                return self._ask(lm, {name: row[name] for name in split.inputs})
            except (AdapterParseError, ContextWindowExceededError):  # no verdict, which agrees with no label
                return None

        with dspy.context(**{USAGE: Usage()}):  # it is not what the example takes that happened to be judged first
            verdicts = at_once(verdict, split.rows)
        return agreement(verdicts, [row[self.field] for row in split.rows], split.groups)

    def _ask(self, lm: Any, inputs: Mapping[str, Any]) -> Any:
        with dspy.context(lm=lm, trace=None):
            return self.program()(**inputs)[self.field]

    def _key(self, split: Split, settings: Settings, model: str) -> str:
        asked = [model, *_asked(settings, self.name)]
        said = [self.name, self.field, asked, split.fingerprint, snapshot(self.program()).digest]
        return hashlib.sha256(json.dumps(said, default=str).encode()).hexdigest()[:12]

    def _recorded(self, home: Path, key: str) -> Agreement | None:
        try:
            return Agreement(**json.loads(_file(home, self.name, key).read_text("utf-8")))
        except (OSError, ValueError, TypeError):
            return None

    def _record(self, home: Path, key: str, held: Agreement) -> None:
        file = _file(home, self.name, key)
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(json.dumps(vars(held)) + "\n", "utf-8")


_holding = threading.Lock()
_known: dict[tuple[Any, ...], Agreement] = {}
"""Of this process, which asks for every verdict."""


def judges_of(metric: Callable[..., Any]) -> Iterator[Judge]:
    """The judges that a metric's function names."""
    names = getattr(getattr(metric, "__code__", None), "co_names", ())
    for name in names:
        if isinstance(found := metric.__globals__.get(name), Judge):
            yield found


def _asked(settings: Settings, name: str) -> tuple[Any, ...]:
    """What beside the model's name makes it another judge: its address and options, and whether a form is forced."""
    return settings.asking(name), settings.force_format


def _file(home: Path, name: str, key: str) -> Path:
    return home / "judges" / f"{name}-{key}.json"


def _settings() -> Settings:
    lms: LMs | None = dspy.settings.get(LMS)
    return lms.settings if lms else load_settings()
