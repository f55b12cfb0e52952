"""What the README and docs/ show is what there is: blocks run, commands and files exist."""

import ast
import re
import shlex
from pathlib import Path

import pytest

from cascade.cli import main
from cascade.experiment import Experiment

ROOT = Path(__file__).parents[1]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]
BLOCKS = [
    pytest.param(text, id=f"{page.name}-{number}")
    for page in PAGES
    for number, text in enumerate(re.findall(r"```python\n(.*?)```", page.read_text("utf-8"), re.DOTALL), 1)
]
COMMANDS = sorted(
    {match for page in PAGES for match in re.findall(r"`(cascade [a-z][^`…]*)`", page.read_text("utf-8"))}
)


@pytest.mark.parametrize("block", BLOCKS)
def test_a_block_runs(block: str) -> None:
    """Definitions run whole; of a block that would run a cascade, the imports."""
    tree = ast.parse(block)
    if any(call in block for call in ("cascade.run(", "load_program(", "load_champion(")):
        tree.body = [node for node in tree.body if isinstance(node, ast.Import | ast.ImportFrom)]
    namespace: dict[str, object] = {"__name__": "docs"}
    exec(compile(tree, "docs", "exec"), namespace)
    if "experiment = Experiment(" in block:
        assert isinstance(namespace["experiment"], Experiment)


@pytest.mark.parametrize("command", COMMANDS)
def test_a_command_exists(command: str, capsys: pytest.CaptureFixture[str]) -> None:
    words = [word for word in shlex.split(command)[1:] if word.islower() and not word.startswith("-")]
    verbs = words[:2] if words[0] in ("models", "ledger") else words[:1]
    options = [word for word in shlex.split(command) if word.startswith("--")]
    code = main([*verbs, "--help"])
    shown = capsys.readouterr()
    assert code == 0, shown.err
    assert all(option in shown.out for option in options)


@pytest.mark.parametrize(
    "target", sorted(set(re.findall(r"(?:^|`)make ([a-z-]+)", (ROOT / "README.md").read_text("utf-8"), re.MULTILINE)))
)
def test_a_make_target_exists(target: str) -> None:
    assert re.search(rf"^{target}:", (ROOT / "Makefile").read_text("utf-8"), re.MULTILINE)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_lead_somewhere(page: Path) -> None:
    for link in re.findall(r"\]\((?!https?:)([^)#]+)", page.read_text("utf-8")):
        assert (page.parent / link).exists(), f"{page.name} links to {link!r}"
