"""Outside a run no answer is written to the user's home, and nothing that lies there is loaded."""

import json
import os
import subprocess
import sys
from pathlib import Path

import dspy
import pytest
import scripted

from cascade.lm.embedded import EmbeddedEngine, Models, embedded_lm
from cascade.lm.lms import LMs
from cascade.settings import LMSpec
from cascade.testing import ScriptedEndpoint

CALLS = """
import json, os, sys
from pathlib import Path
import dspy
from cascade.experiment import Budget
from cascade.lm.bound_program import BoundProgram
from cascade.lm.gateway import Gateway, installed
from cascade.lm.ledger import Ledger
from cascade.lm.lms import LMs
from cascade.lm.meter import Meter
from cascade.settings import LMSpec, Settings

folder, url, how = Path(sys.argv[1]), sys.argv[2], sys.argv[3]
settings = Settings(folder, folder / "state", "", {"default": LMSpec("openai/any", {"api_base": url})})
program = BoundProgram(dspy.Predict("question -> answer"), LMs(settings))
if how == "in memory":
    dspy.configure_cache(enable_disk_cache=False)
if how == "in a run":
    with Ledger(settings.ledger) as ledger, installed(Gateway(ledger, Meter(Budget()))):
        answers = [program(question="a").answer for _ in range(2)]
else:
    answers = [program(question="a").answer for _ in range(2)]
left = sorted(str(path.relative_to(folder)) for path in (folder / "home").rglob("*"))
print(json.dumps({"answers": answers, "left": left}))
"""


@pytest.mark.parametrize(("how", "asked"), [("outside", 2), ("in memory", 1), ("in a run", 1)])
def test_a_program_leaves_nothing_in_the_home(tmp_path: Path, how: str, asked: int) -> None:
    (tmp_path / "home").mkdir()
    environment = {**os.environ, "HOME": str(tmp_path / "home"), "OPENAI_API_KEY": "any"}
    environment.pop("DSPY_CACHEDIR", None)
    with ScriptedEndpoint(lambda model, inputs, demos: {"answer": inputs["question"].upper()}) as endpoint:
        words = [sys.executable, "-c", CALLS, str(tmp_path), endpoint.url, how]
        done = subprocess.run(words, capture_output=True, text=True, env=environment, check=False)
        assert done.returncode == 0, done.stderr
        assert json.loads(done.stdout) == {"answers": ["A", "A"], "left": []}
        assert len(endpoint.asked) == asked


def test_every_lm_of_settings_keeps_its_answers_in_no_file(tmp_path: Path) -> None:
    """Copies too, which optimizers make; what is saved of one is DSPy's own."""
    remote = LMs(scripted.settings_in(tmp_path, lm={"default": LMSpec("openai/a", {"api_base": "http://x"})}))["task"]
    for lm in (remote, embedded_lm("any", EmbeddedEngine(Models(tmp_path)))):
        before = vars(dspy).pop("cache", None)
        try:
            assert (lm.cache, lm.copy(temperature=0.5).cache, "cache" in vars(dspy)) == (False, False, False)
            said = lm.dump_state()
            assert (said["cache"], said["_dspy_lm_class"]) == (True, "dspy.clients.lm.LM")
        finally:
            if before is not None:
                dspy.cache = before
