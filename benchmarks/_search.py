"""How often search finds the passages that answer: `python benchmarks/_search.py research`, or `multihop`.

Recall at k by words, by meaning and by both, over the questions of all splits; for `multihop` of the second passage
too, by the whole question and by the second of the two that it is made of.
"""

import sys
from pathlib import Path

from cascade.dataset import Dataset, load
from cascade.tools.search import index_of

PROJECT = Path(__file__).parents[1]
KS = (1, 2, 3, 5, 10)


def recall(name: str, asked: list[tuple[str, str]], title: str) -> None:
    index = index_of(name, PROJECT)
    print(f"{title}, {len(asked)} questions, {len(index.passages)} passages")
    for by in ("words", "meaning", "both"):
        found = [([one["id"] for one in index.search(question, max(KS), by)], wanted) for question, wanted in asked]
        shares = "  ".join(f"@{k} {sum(wanted in ids[:k] for ids, wanted in found) / len(asked):.3f}" for k in KS)
        print(f"  {by:8} {shares}")


def main(name: str) -> None:
    rows = [row for split in load(Dataset(name), PROJECT) for row in split.rows]
    if name == "research":
        recall(name, [(row["question"], row["passage"]) for row in rows], "The passage")
        return
    recall(name, [(row["first"], row["facts"][0]) for row in rows], "The first passage, by the first question")
    recall(name, [(row["question"], row["facts"][1]) for row in rows], "The second passage, by the whole question")
    second = [(row["second"].replace("#1", row["bridge"]), row["facts"][1]) for row in rows]
    recall(name, second, "The second passage, by the second question")


if __name__ == "__main__":
    main(*(sys.argv[1:] or ["research"]))
