"""Keys in real use, and every byte that a cascade writes searched for them."""

import base64
import json
import re
import sqlite3
import zlib
from collections.abc import Iterator, Mapping
from pathlib import Path
from urllib.parse import quote, quote_plus

import pytest
from fault_project import ROWS, Project, answer

from cascade.testing import Reply, ScriptedEndpoint

KEY = "sk-canary/0123+4567=89ab"
HEADER = "hdr-canary-76543210-zyxw"
QUERY = "qry-canary-13579"
STAGES = """stages=[
        Stage("instructions", dspy.MIPROv2, auto=None, num_candidates=2, num_trials=2, minibatch=False),
        Stage("demos", dspy.BootstrapFewShot, max_bootstrapped_demos=2),
    ],"""


def forms(secret: str) -> set[bytes]:
    """The secret as it may be written: as it is, escaped, quoted for URLs, and as base64 at each of three offsets."""
    plain = {secret, json.dumps(secret)[1:-1], quote(secret, safe=""), quote_plus(secret)}
    coded = set()
    for offset in range(3):
        text = base64.b64encode(b"x" * offset + secret.encode())
        inner = text[-(-offset * 4 // 3) + (offset > 0) : len(text) - 4]
        coded |= {inner, inner.translate(bytes.maketrans(b"+/", b"-_"))}
    return {form.encode() for form in plain} | coded


def contents(folder: Path) -> Iterator[tuple[str, bytes]]:
    """Every file, and what is inside databases and compressed views."""
    files = {path: path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}
    for path, data in files.items():
        yield path.name, path.name.encode() + b"\0" + data
        if data.startswith(b"SQLite format 3"):
            connection = sqlite3.connect(path)
            connection.text_factory = bytes
            tables = [
                name.decode() for (name,) in connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'")
            ]
            cells = (cell for name in tables for row in connection.execute(f'SELECT * FROM "{name}"') for cell in row)
            text = b"\n".join(cell if isinstance(cell, bytes) else str(cell).encode() for cell in cells)
            connection.close()
            yield f"rows of {path.name}", text
            views = re.findall(rb"deflate;([A-Za-z0-9+/=]+)", text)
            yield f"views of {path.name}", b"\n".join(zlib.decompress(base64.b64decode(view)) for view in views)


def leaks(folder: Path, *secrets: str) -> list[str]:
    """Where in the folder a secret is; settings, which the user wrote, are left out."""
    wanted = {form for secret in secrets for form in forms(secret)}
    return [
        name for name, data in contents(folder) if name != "pyproject.toml" and any(form in data for form in wanted)
    ]


@pytest.mark.parametrize("hidden", [*sorted(forms(KEY))], ids=range(len(forms(KEY))))
def test_the_search_finds_what_is_there(tmp_path: Path, hidden: bytes) -> None:
    (tmp_path / "a.txt").write_bytes(b"x" + hidden + b"y")
    assert leaks(tmp_path, KEY) == ["a.txt"]


def test_the_search_looks_into_databases_and_views(tmp_path: Path) -> None:
    view = b"deflate;" + base64.b64encode(zlib.compress(KEY.encode() * 50))
    connection = sqlite3.connect(tmp_path / "x.db")
    with connection:
        connection.execute("CREATE TABLE t (a)")
        connection.execute("INSERT INTO t VALUES (?), (?)", (view, "x" * 4090 + KEY))
    connection.close()
    assert leaks(tmp_path, KEY)[-2:] == ["rows of x.db", "views of x.db"]


def says(_model: str, inputs: Mapping[str, str], demos: int) -> Mapping[str, str]:
    """Repeats the key now and then, as a model does that was told it."""
    question = inputs.get("question", "")
    return {"answer": f"my key is {KEY}"} if question == "dev 0 3" else answer("", inputs, demos)


def replies(_number: int, inputs: Mapping[str, str]) -> Reply | None:
    """Errors that repeat what was sent."""
    told = f"you sent {KEY} and {quote(KEY, safe='')} and {HEADER} to ?token={QUERY}"
    body = json.dumps({"error": {"message": told, "type": "x", "code": "y"}})
    question = inputs.get("question", "")
    failing = {
        "dev 0 7": Reply(401),
        "train 0 5": Reply(500, body=body),
        "test 1 1": Reply(400, body=body),
        "dev 1 2": Reply(body=told),
    }
    return failing.get(question)


@pytest.fixture
def project(tmp_path: Path, empty_store: Path) -> Iterator[Project]:
    with Project(tmp_path / "project", empty_store, ScriptedEndpoint(says, reply=replies, key=KEY)) as made:
        made.edit("experiments/letters.py", 'stages=[Stage("demos", dspy.LabeledFewShot, k=4)],', STAGES)
        made.options |= {"num_retries": 0}
        made.environ |= {"OPENAI_API_KEY": KEY, "MLFLOW_TRACKING_URI": made.mlflow()}
        yield made


@pytest.mark.parametrize(
    "gateway",
    [
        pytest.param(False, id="key"),
        pytest.param(True, id="key, header and query", marks=pytest.mark.slow),
    ],
)
def test_no_key_reaches_a_byte_that_is_written(project: Project, gateway: bool) -> None:
    if gateway:
        project.options |= {
            "extra_headers": {"X-Gateway-Token": HEADER},
            "api_base": f"{project.endpoint.url}?token={QUERY}",
        }
    done = project.run("run", "letters", "--json")
    assert done.code == 0, done.err
    result = json.loads(done.out)
    assert (done.code, result["status"]) == (0, "completed")
    assert len(project.asked) > 4 * ROWS, "the key was taken"
    assert len(project.journal.read("published.json")["stages"]) == 3, "MLflow has it"
    failed = project.errors()
    assert failed.keys() == {"dev-0008", "dev-0013"}
    assert "***" in "".join(failed.values())
    assert "***" in str(project.journal.read("0-baseline/examples.json")["predicted"]), "what the model repeated"
    log = (project.journal.folder / "1-instructions" / "optimizer.log").read_text()
    assert "***" in log, "an optimizer printed an error"
    others = (
        ["show", "letters", "--json"],
        ["show", "letters", "--html", "page.html"],
        ["compare", "letters"],
        ["list"],
        ["ledger"],
    )
    for words in others:
        project.run(*words)
    raising = 'raise ValueError(__import__("os").environ["OPENAI_API_KEY"])'
    returned = "return example.answer == prediction.answer"
    # On wrong answers only: what a metric does to expected ones is found before a run.
    project.edit("experiments/letters.py", returned, f'if prediction.answer == "?":\n        {raising}\n    {returned}')
    failing = project.run("--debug", "run", "letters")
    assert failing.code == 1 and "Traceback" in failing.err
    project.edit("experiments/letters.py", "super().__init__()", raising)
    broken = project.run("--debug", "run", "letters")
    assert broken.code == 2 and "ValueError: ***" in broken.err, "also where it is the cause of what is said"
    assert leaks(project.folder, KEY, *((HEADER, QUERY) if gateway else ())) == []
