"""A process that promotes and rolls back at random: `python promoting_child.py FOLDER SEED TIMES`."""

import os
import random
import sys
from collections.abc import Mapping
from typing import Any

from cascade.cli import main
from cascade.cli.parts import Parts
from cascade.testing import ScriptedEngine, ScriptedLMs


def learns(_model: str, inputs: Mapping[str, str], demos: int) -> Mapping[str, str]:
    """Each demo shows it two more digits."""
    question = inputs.get("question", "")
    return {"answer": question[-1] if int(question[-1]) < 1 + 2 * demos else "?"}


def scripted(settings: Any) -> ScriptedLMs:
    return ScriptedLMs(settings, ScriptedEngine(learns))


if __name__ == "__main__":
    folder, seed, times = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
    os.chdir(folder)
    draw = random.Random(seed)
    for _ in range(times):
        words = ["promote", "letters", "--force", "--version", draw.choice("1234")]
        if draw.random() < 0.4:
            words = ["rollback", "letters"]
        code = main(words, parts=Parts(lms=scripted))
        print(words[0], code)
        if code not in (0, 3):
            sys.exit(1)
