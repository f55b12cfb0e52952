"""How far judges agree with labelled answers: `python benchmarks/_judges.py [--rows 30] [words] [counts] [semantic] …`.

`words` compares words with the reference and has its two thresholds from train, `counts` is a decision tree over how
many words each side has that the other has not, `semantic` is DSPy's `SemanticF1` under
the LM `judge`, `rubric` is `cascade.judges.RubricJudge` under it. All are held against test of `datasets/judge`.
"""

import re
import sys
from collections import Counter
from collections.abc import Callable, Sequence
from functools import partial
from itertools import combinations
from pathlib import Path
from typing import Any

import dspy
from sklearn.tree import DecisionTreeClassifier

from cascade.agreement import agreement
from cascade.dataset import Dataset, Split, load
from cascade.discover import import_file
from cascade.judges import RubricJudge
from cascade.lm.lms import LMs
from cascade.settings import load_settings
from cascade.threads import at_once

PROJECT = Path(__file__).parents[1]
GRID = [step / 20 for step in range(1, 20)]


def word_f1(row: Any) -> float:
    wanted, given = (Counter(re.findall(r"\w+", row[name].lower())) for name in ("reference", "response"))
    return 2 * (wanted & given).total() / (wanted.total() + given.total())


def verdict(share: float, low: float, high: float) -> str:
    return "right" if share >= high else "partly" if share >= low else "wrong"


def thresholds(train: Split) -> tuple[float, float]:
    scores = [(word_f1(row), row["verdict"]) for row in train.rows]
    return max(combinations(GRID, 2), key=lambda pair: sum(verdict(s, *pair) == label for s, label in scores))


def words(_lms: LMs, train: Split) -> Callable[[Any], str]:
    low, high = thresholds(train)
    print(f"words: right from F1 {high}, partly from {low} (chosen on train)")
    return lambda row: verdict(word_f1(row), low, high)


def counts(_lms: LMs, train: Split) -> Callable[[Any], str]:
    tree = DecisionTreeClassifier(max_depth=4, random_state=0)
    tree.fit([_counts(row) for row in train.rows], [row["verdict"] for row in train.rows])
    return lambda row: str(tree.predict([_counts(row)])[0])


def _counts(row: Any) -> list[float]:
    wanted, given = (set(re.findall(r"\w+", row[name].lower())) for name in ("reference", "response"))
    missing, added = len(wanted - given), len(given - wanted)
    return [missing, added, len(wanted), len(given), missing / len(wanted), added / max(1, len(given))]


def semantic(_lms: LMs, _train: Split) -> Callable[[Any], str]:
    return asked(import_file(PROJECT / "experiments/judge.py", "experiments.judge").Semantic())


def rubric(_lms: LMs, _train: Split) -> Callable[[Any], str]:
    return asked(RubricJudge())


def asked(judge: Any) -> Callable[[Any], str]:
    return lambda row: judge(**{name: row[name] for name in ("question", "reference", "response")}).verdict


def safely(judge: Callable[[Any], str], row: Any) -> str:
    try:
        return judge(row)
    except Exception:  # no format, no verdict: agrees with no label
        return "none"


def main(names: Sequence[str], rows: int) -> None:
    lms = LMs(load_settings(PROJECT))
    data = load(Dataset("judge"), PROJECT)
    shown = data.test.rows[:rows]
    with dspy.context(lm=lms.asked("judge"), adapter=lms.adapter, disable_history=True):
        for name in names:
            judge = globals()[name](lms, data.train)
            given = at_once(partial(safely, judge), shown, lms.threads)
            groups = (data.test.groups or data.test.ids)[:rows]
            print(f"{name}: {agreement(given, [row['verdict'] for row in shown], groups)}; {dict(Counter(given))}")
    lms.close()


if __name__ == "__main__":
    arguments = sys.argv[1:]
    limit = int(arguments.pop(arguments.index("--rows") + 1)) if "--rows" in arguments else 1_000
    main([one for one in arguments if one != "--rows"] or ["words", "counts", "semantic", "rubric"], limit)
