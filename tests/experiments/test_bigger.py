"""What docs/experiments say of a bigger model: one setting, also where it cannot be trained."""

from pathlib import Path

import pytest
from knowing import PROJECT

from cascade.check import prepare
from cascade.checks import examine
from cascade.discover import discover
from cascade.lm.lms import LMs
from cascade.recipes import under
from cascade.settings import LMSpec, Settings

NAMES = sorted(path.stem for path in (PROJECT / "docs" / "experiments").glob("*.md"))


@pytest.mark.parametrize("name", [*NAMES, "judged"])
def test_it_runs_on_a_model_that_cannot_be_trained(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ANTHROPIC_API_KEY", "none")
    bigger = {"default": LMSpec("anthropic/claude-3-5-haiku-latest")}
    settings = Settings(PROJECT, tmp_path, f"sqlite:///{tmp_path / 'mlflow.db'}", lm=bigger)

    def errors(recipe: str = "") -> list[str]:
        defined = discover(name, PROJECT)
        lms = LMs(settings)
        prepared = prepare(under(defined, recipe) if recipe else defined, settings, lms)
        return [str(finding) for finding in examine(prepared) if finding.severity == "error"]

    assert errors("prompts") == []
    assert any("cannot be trained" in error for error in errors())
