"""`llms_txt`: a loopback site of real documentation becomes a valid file, whatever the model says."""

import threading
from collections.abc import Iterator, Mapping
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import dspy
import pytest

from cascade.check import prepare
from cascade.checks import examine
from cascade.discover import discover, import_file
from cascade.errors import StepFailed
from cascade.lm.lms import LMs
from cascade.settings import Settings, load_settings
from cascade.testing import ScriptedEngine, ScriptedLMs
from cascade.tools.http import Limits
from cascade.tools.llms_txt import faults, parse

PROJECT = Path(__file__).parents[2]
FILE = import_file(PROJECT / "experiments" / "llms_txt.py", "experiments.llms_txt")
QUICK = {"limits": Limits(delay=0), "loopback": True}


class Quiet(SimpleHTTPRequestHandler):
    def log_message(self, *_: Any) -> None:
        pass


@pytest.fixture(scope="module")
def site() -> Iterator[str]:
    folder = PROJECT / "datasets" / "llms_txt" / "site"
    with ThreadingHTTPServer(("127.0.0.1", 0), partial(Quiet, directory=str(folder))) as server:
        threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_address[1]}/"
        server.shutdown()


def reads(model: str, inputs: Mapping[str, str], demos: int) -> Mapping[str, str]:
    """What a model that reads would say: the title before the first stop, and the sentence after it."""
    title, _, rest = inputs["text"].partition(". ")
    section = "releases" if "Release 3" in title else "c api" if "sqlite3_" in rest else "about"
    return {"section": section, "title": title, "summary": rest.partition(". ")[0] or "nothing"}


def babbles(model: str, inputs: Mapping[str, str], demos: int) -> Mapping[str, str]:
    return {"section": "sql", "title": "](javascript:x) # [", "summary": "## > - [x](y)\n# z"}


def generated(site: str, answer: Any, program: Any = None) -> str:
    with dspy.context(lm=dspy.LM("scripted/base", engine=ScriptedEngine(answer), cache=False)):
        return str(FILE.generate(site, (program or FILE.DescribePage)(), **QUICK))


def test_a_site_becomes_a_file_that_lists_all_its_pages(site: str) -> None:
    text = generated(site, reads)
    found = {link.url.removeprefix(site): link for _, links in parse(text).sections for link in links}
    folder = PROJECT / "datasets" / "llms_txt" / "site"
    pages = {path.relative_to(folder).as_posix() for path in folder.rglob("*.html")} - {"index.html"}
    assert set(found) - {"", "index.html"} == pages
    assert found["serverless.html"].name == "SQLite Is Serverless"
    assert found["serverless.html"].notes.startswith(
        "Most SQL database engines are implemented as a separate server process"
    )
    assert [name for name, _ in parse(text).sections] == ["C API", "About", "Optional"]
    assert text.startswith(
        "# SQLite documentation, thirteen pages of it\n\n> These pages of the documentation of SQLite"
    )


@pytest.mark.parametrize("program", ["DescribePage", "PlainPage"])
def test_a_model_that_babbles_makes_no_malformed_file(site: str, program: str) -> None:
    text = generated(site, babbles, vars(FILE)[program])
    assert faults(text) == []
    assert all(link.url.startswith(site) for _, links in parse(text).sections for link in links)


def test_a_site_that_cannot_be_read_is_an_error_in_words() -> None:
    with pytest.raises(StepFailed, match="which is no public address"):
        FILE.generate("http://127.0.0.1:9/", FILE.DescribePage())


RIGHT = {"section": "sql", "title": "The WITH Clause", "summary": "Tables that exist for one statement."}


@pytest.mark.parametrize(
    ("said", "value"),
    [
        ({}, 1.0),
        ({"section": "about"}, 0.5),
        ({"title": "WITH clause"}, 0.5 + 0.25 * 0.8 + 0.25),
        ({"summary": "Tables"}, 0.75 + 0.25 * 2 / 7),
        ({"title": "", "summary": ""}, 0.5),
    ],
)
def test_what_an_answer_is_worth(said: dict[str, str], value: float) -> None:
    example = dspy.Example(url="https://docs.example/lang_with.html", **RIGHT)
    score = FILE.described(example, dspy.Prediction(**{**RIGHT, **said}))
    assert score.value == pytest.approx(value)
    assert score.parts["link"] == 1
    assert (score.feedback == "All of it is right.") == (value == 1)


def test_the_check_has_nothing_to_ask_about(tmp_path: Path) -> None:
    settings = Settings(PROJECT, tmp_path, f"sqlite:///{tmp_path / 'mlflow.db'}")
    prepared = prepare(discover("llms_txt", PROJECT), settings, ScriptedLMs(settings, ScriptedEngine(reads)))
    assert [str(finding) for finding in examine(prepared) if finding.severity != "note"] == []


@pytest.mark.slow
@pytest.mark.embedded
def test_the_embedded_model_writes_a_valid_file(site: str) -> None:
    lms = LMs(load_settings(PROJECT))
    with dspy.context(lm=lms["task"], adapter=lms.adapter):
        text = FILE.generate(site, FILE.DescribePage(), limits=Limits(delay=0, pages=4), loopback=True)
    lms.close()
    assert faults(text) == []
    assert sum(len(links) for _, links in parse(text).sections) == 4
