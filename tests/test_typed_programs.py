"""Typed, nested and image fields through the whole path: rows, stages, snapshot, report, MLflow, and back."""

import json
import re
import shutil
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import dspy
import pytest
import scripted
import typed_project as typed
from typed_project import Judges, Sees, Verdict, data_uri, person_rows, png

from cascade.check import prepare
from cascade.checks import examine
from cascade.dataset import Dataset
from cascade.errors import DatasetError
from cascade.experiment import Experiment, Stage
from cascade.journal import Journal
from cascade.metrics import metric
from cascade.mlflow_store import MlflowTracker, load_program
from cascade.optimizers import BootstrapFinetune, NearestDemos
from cascade.report.page import run_page
from cascade.report.reading import read
from cascade.runner import execute
from cascade.settings import Settings
from cascade.testing import ScriptedEngine, ScriptedLMs

STAGES = (
    Stage("instructions", dspy.MIPROv2, auto="light"),
    Stage("demos", dspy.BootstrapFewShot, max_bootstrapped_demos=2, max_labeled_demos=4),
    Stage("labels", dspy.LabeledFewShot, k=3),
    Stage("nearest", NearestDemos, refit=False, k=2),
    Stage("weights", BootstrapFinetune, max_labeled_rows=4),
)
pytestmark = pytest.mark.filterwarnings("ignore:.*, a file of the project")


@metric
def same_verdict(example: Any, prediction: Any) -> bool:
    """Compares models with models: labels of rows have the program's types."""
    assert isinstance(prediction.verdict, Verdict)
    return bool(example.verdict == prediction.verdict and example.kind == prediction.kind)


@metric
def same_color(example: Any, prediction: Any) -> bool:
    assert isinstance(example.photo, dspy.Image)
    return bool(example.color == prediction.color)


def says(_model: str, inputs: Mapping[str, str], demos: int) -> Mapping[str, str]:
    """What the row expects, for most rows; and for more the more demos there are."""
    if "person" not in inputs:
        return {"verdict": "?"}
    person, split = json.loads(inputs["person"]), json.loads(inputs["tags"])[1]
    row = person_rows(split, 60)[int(person["name"][2:])]
    right = scripted.luck(person["home"]["city"]) < 0.4 + 0.1 * min(demos, 4)
    verdict = row["verdict"] if right else {**row["verdict"], "reasons": []}
    return {"verdict": json.dumps(verdict), "kind": row["kind"]}


def persons(**options: Any) -> Experiment:
    data = Dataset("people", train=person_rows("train", 24), dev=person_rows("dev", 30), test=person_rows("test", 30),
                   inputs=("person", "tags"))  # fmt: skip
    return Experiment(data, same_verdict, Judges, name="people", plateau=scripted.PATIENT, **options)


def ran(folder: Path, defined: Experiment, engine: ScriptedEngine) -> Any:
    return execute(scripted.prepared(defined, folder, engine))


@pytest.fixture(scope="module")
def people(tmp_path_factory: pytest.TempPathFactory) -> Any:
    return ran(tmp_path_factory.mktemp("people"), persons(stages=STAGES), ScriptedEngine(says))


def test_models_run_through_every_stage(people: Any) -> None:
    assert [(stage.name, stage.status, stage.error) for stage in people.stages] == [
        (f"{n}-{name}", "done", "") for n, name in enumerate(["baseline", *(stage.name for stage in STAGES)])
    ]
    assert people.stages[3].dev.mean > people.baseline.dev.mean > 0
    assert not any(outcome.error for outcome in people.baseline.dev.outcomes)


def test_the_journal_holds_json_and_no_text_of_python(people: Any) -> None:
    folder = Path(people.journal)
    table = json.loads((folder / "0-baseline/examples.json").read_text())
    assert table["predicted"][0]["verdict"].keys() == {"label", "reasons", "where"}
    assert table["expected"][0]["verdict"]["where"] == {"city": "dev 0", "since": "2010-01-02"}
    assert table["input"][0]["person"]["home"]["city"] == "dev 0"
    demos = [demo for path in folder.glob("*/program.json") for demo in json.loads(path.read_text())["judge"]["demos"]]
    assert {type(demo["person"]) for demo in demos} == {type(demo["verdict"]) for demo in demos} == {dict}
    nearest = json.loads((folder / "4-nearest/program.json").read_text())["judge"]["nearest"]
    assert {type(row["verdict"]) for row in nearest["rows"]} == {dict}
    assert "Person(" not in "".join(path.read_text() for path in folder.rglob("*.md"))


def test_nearest_demos_never_show_a_row_to_itself(people: Any) -> None:
    predictor = people.stages[4].program.judge
    row = person_rows("train", 24)[3]
    person = typed.Person.model_validate(row["person"])
    shown = predictor.nearest.nearest({"person": person, "tags": row["tags"]})
    assert len(shown) == 2
    assert row["person"] not in [demo["person"] for demo in shown]


def test_checks_know_models_for_what_they_are(tmp_path: Path) -> None:
    found = examine(scripted.prepared(persons(), tmp_path, ScriptedEngine(says)))
    told = [
        str(finding) for finding in found if finding.severity != "note" and "a file of the project" not in str(finding)
    ]
    assert told == []
    assert "all 84 expected answers that were tried get full credit." in " ".join(map(str, found))


def test_an_input_that_is_no_model_is_refused_before_anything_is_spent(tmp_path: Path) -> None:
    rows = person_rows("dev", 30)
    rows[4]["person"]["home"]["since"] = "long ago"
    data = Dataset(
        "people", train=person_rows("train", 24), dev=rows, test=person_rows("test", 30), inputs=("person", "tags")
    )
    with pytest.raises(DatasetError) as caught:
        scripted.prepared(Experiment(data, same_verdict, Judges, name="people"), tmp_path, ScriptedEngine(says))
    said = str(caught.value)
    assert said.startswith("Dataset 'people', split 'dev': 'person' of row 'dev-0005' is {'name': 'P 4', 'home': ")
    assert "which is no Person, as the program declares it: home.since input should be a valid date" in said


def published(result: Any, folder: Path, empty_store: Path, source: str) -> tuple[Any, Settings]:
    uri = f"sqlite:///{shutil.copy(empty_store, folder / 'mlflow.db')}"
    journal = Journal(Path(result.journal))
    (journal.folder / "source.py").write_text(source)
    journal.update(factory={**journal.run.factory, "source": str(folder / "alone.py")})
    MlflowTracker(uri).publish(journal)
    from mlflow import MlflowClient

    return MlflowClient(uri), Settings(folder, folder / "elsewhere", uri)


SOURCE = Path(typed.__file__).read_text()


def test_models_come_back_from_mlflow(people: Any, tmp_path: Path, empty_store: Path) -> None:
    client, settings = published(people, tmp_path, empty_store, SOURCE)
    program = load_program(
        "models:/people@challenger", settings, lms=lambda made: ScriptedLMs(made, ScriptedEngine(says))
    )
    row = person_rows("test", 30)[1]
    found = program.fields(row)
    assert found["verdict"].keys() == {"label", "reasons", "where"}
    assert json.dumps(found)
    with pytest.raises(ValueError, match=r"home\s+Field required"):
        program.fields({"person": {"name": "x"}, "tags": []})
    (stage,) = [run for run in client.search_runs(["1"]) if run.data.tags.get("cascade.stage") == "1-instructions"]
    assert "cascade.no_model" not in stage.data.tags


BIG = 200
"""Pixels a side: a photo of some hundred bytes, and one demo of it as long as a page."""


def photos(folder: Path) -> Experiment:
    """A data set in files, with images beside them, below them, as URLs and as data."""
    home = folder / "datasets" / "photos"
    (home / "img").mkdir(parents=True)
    (home / "dataset.toml").write_text('inputs = ["photo", "more"]\n')
    for number, split in enumerate(("train", "dev", "test")):
        lines = []
        for i in range(24):
            name = f"img/{split}-{i:03}.png"
            (home / name).write_bytes(png(40 * (i % 6), salt=100 * number + i, side=BIG))
            more = [name, "https://images.example/1.png"] if i % 2 else [data_uri(png(7, salt=i))]
            lines.append(json.dumps({"photo": name, "more": more, "color": f"grey {i % 6}"}) + "\n")
        (home / f"{split}.jsonl").write_text("".join(lines))
    return Experiment(Dataset("photos"), same_color, Sees, name="photos", plateau=scripted.PATIENT, stages=(
        Stage("labels", dspy.LabeledFewShot, k=3),
        Stage("demos", dspy.BootstrapFewShotWithRandomSearch, num_candidate_programs=2, max_bootstrapped_demos=2),
        Stage("nearest", NearestDemos, refit=False, k=2),
        Stage("instructions", dspy.MIPROv2, auto="light"),
    ))  # fmt: skip


class Looks(ScriptedEngine):
    """Sees the first image of the question, and which images it was shown before."""

    def __init__(self) -> None:
        super().__init__(lambda _model, _inputs, _demos: {})
        self.shown: list[list[str]] = []

    def complete(self, request: Any) -> Any:
        images = [
            [_url(part) for part in message.parts if hasattr(part, "data") or hasattr(part, "url")]
            for message in request.messages
        ]
        self.shown.append([url for one in images for url in one])
        question = next((url for url in images[-1]), "")
        right = scripted.luck(question) < 0.4 + 0.1 * sum(map(bool, images[:-1]))
        self.answer = lambda _model, _inputs, _demos: {"color": COLORS.get(question, "?") if right else "?"}
        return super().complete(request)


COLORS: dict[str, str] = {}


def _url(part: Any) -> str:
    return str(getattr(part, "url", None) or f"data:{part.media_type};base64,{part.data}")


@pytest.fixture(scope="module")
def seen(tmp_path_factory: pytest.TempPathFactory) -> Any:
    folder, engine = tmp_path_factory.mktemp("photos"), Looks()
    defined = photos(folder)
    for path in (folder / "datasets/photos/img").iterdir():
        COLORS[data_uri(path.read_bytes())] = f"grey {int(path.stem[-3:]) % 6}"
    settings = scripted.settings_in(folder, threads=1)
    return execute(prepare(defined, settings, ScriptedLMs(settings, engine))), engine, folder


def test_images_reach_the_model_and_demos_show_theirs(seen: Any) -> None:
    result, engine, _ = seen
    assert [(stage.status, stage.error) for stage in result.stages] == [("done", "")] * 5
    assert 0 < result.baseline.dev.mean < result.stages[1].dev.mean
    assert all(
        url.startswith(("data:image/png;base64,", "https://images.example/")) for urls in engine.shown for url in urls
    )
    assert max(map(len, engine.shown)) >= 6


def test_nothing_that_a_person_reads_holds_an_image(seen: Any, tmp_path: Path, empty_store: Path) -> None:
    result, _, folder = seen
    journal = Journal(Path(result.journal))
    (journal.folder / "report.html").write_text(run_page(read(journal)))
    read_by_people = [path for path in journal.folder.rglob("*") if path.suffix in (".md", ".html", ".jsonl", ".log")
                      or path.name in ("examples.json", "findings.json", "decisions.json", "run.json", "record.json")]  # fmt: skip
    assert len(read_by_people) > 20
    long = data_uri(png(0, salt=100, side=BIG))[40:80]
    assert [str(path) for path in read_by_people if "base64," in path.read_text() or long in path.read_text()] == []
    table = json.loads((journal.folder / "0-baseline/examples.json").read_text())
    assert table["input"][0]["photo"] == "img/dev-000.png"
    assert re.fullmatch(r"\[image/png, \d+ bytes, sha256 [0-9a-f]{12}\]", table["input"][0]["more"][0])
    assert table["input"][1]["more"] == ["img/dev-001.png", "https://images.example/1.png"]
    assert "[image/png, " in (journal.folder / "1-labels/prompts.md").read_text()
    size = (folder / ".cascade/ledger.db").stat().st_size
    assert size < 2_000_000, size
    client, _ = published(result, tmp_path, empty_store, SOURCE)
    for run in client.search_runs(["1"]):
        for name in ("examples.json", "prompts.md", "candidates.jsonl"):
            if run.data.tags.get("cascade.stage") and name in {
                one.path for one in client.list_artifacts(run.info.run_id)
            }:
                assert "base64," not in Path(client.download_artifacts(run.info.run_id, name)).read_text()
    prompt = client.get_prompt_version("photos-prompt", 1)
    assert "base64," not in prompt.template


def test_a_program_with_images_in_its_demos_comes_back_with_them(seen: Any, tmp_path: Path, empty_store: Path) -> None:
    result, _, folder = seen
    _, settings = published(result, tmp_path, empty_store, SOURCE)
    engine = Looks()
    program = load_program("models:/photos@challenger", settings, lms=lambda made: ScriptedLMs(made, engine))
    photo = data_uri((folder / "datasets/photos/img/test-003.png").read_bytes() + str(tmp_path).encode())
    assert program.fields({"photo": photo, "more": []}).keys() == {"color"}
    assert engine.shown[-1][-1] == photo
    assert len(engine.shown[-1]) > 1
    for other in ("img/test-003.png", str(folder / "datasets/photos/img/test-003.png"), "/etc/passwd"):
        with pytest.raises(ValueError):  # noqa: PT011
            program.fields({"photo": other, "more": []})


def test_an_image_that_is_not_there_is_said_with_its_row(tmp_path: Path) -> None:
    defined = photos(tmp_path)
    (tmp_path / "datasets/photos/img/dev-003.png").unlink()
    with pytest.raises(
        DatasetError,
        match=r"split 'dev': 'photo' of row 'dev-0004' is 'img/dev-003\.png', which is no Image, as the program declares it: 'img/dev-003\.png' is no file of the data set, no URL and no data URI of an image; files are looked for in .*/datasets/photos\.$",
    ):
        scripted.prepared(defined, tmp_path, Looks())


def test_images_are_part_of_the_data(tmp_path: Path) -> None:
    defined = photos(tmp_path)
    before = scripted.prepared(defined, tmp_path, Looks())
    photo = tmp_path / "datasets/photos/img/dev-003.png"
    photo.write_bytes(png(255, salt=999))
    after = scripted.prepared(defined, tmp_path, Looks())
    assert before.data.dev.fingerprint != after.data.dev.fingerprint
    assert before.data.train.fingerprint == after.data.train.fingerprint
    assert before.signature != after.signature
    photo.write_bytes((tmp_path / "datasets/photos/img/train-005.png").read_bytes())
    lines = [json.loads(line) for line in (tmp_path / "datasets/photos/dev.jsonl").read_text().splitlines()]
    lines[3]["more"] = json.loads((tmp_path / "datasets/photos/train.jsonl").read_text().splitlines()[5])["more"][:1]
    other = json.loads((tmp_path / "datasets/photos/train.jsonl").read_text().splitlines()[5])
    other["more"] = other["more"][:1]
    train = [json.loads(line) for line in (tmp_path / "datasets/photos/train.jsonl").read_text().splitlines()]
    train[5], lines[3]["more"] = other, ["img/dev-003.png"]
    for name, rows in (("train", train), ("dev", lines)):
        (tmp_path / f"datasets/photos/{name}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    with pytest.raises(DatasetError, match="the inputs of 'dev-0004' in 'dev' stand in 'train' too"):
        scripted.prepared(defined, tmp_path, Looks())


def test_checks_compare_images_by_what_they_hold(tmp_path: Path) -> None:
    found = examine(scripted.prepared(photos(tmp_path), tmp_path, Looks()))
    assert [str(one) for one in found if one.severity != "note" and "a file of the project" not in str(one)] == []


def test_the_shared_file_can_stand_alone() -> None:
    assert "typed_project" in sys.modules
    assert "cascade" not in SOURCE.replace("cascade's", "")
