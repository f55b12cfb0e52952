"""`privacy`: over every message that the cloud is sent, no raw secret reaches it."""

import json
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import dspy
import pytest
import scripted
from dspy.utils.callback import BaseCallback
from hypothesis import HealthCheck, given
from hypothesis import settings as limits
from hypothesis import strategies as st

from cascade.check import prepare
from cascade.checks import examine
from cascade.dataset import Dataset, load
from cascade.discover import discover, import_file
from cascade.experiment import Stage
from cascade.lm.lms import LMs
from cascade.lm.named import offering
from cascade.optimizers import NearestDemos
from cascade.recipes import small
from cascade.runner import execute
from cascade.settings import Settings, load_settings
from cascade.testing import ScriptedEngine, ScriptedLMs
from cascade.tools.personal import impersonal
from cascade.tools.sealed import anonymous, leaked

PROJECT = Path(__file__).parents[2]
FILE = import_file(PROJECT / "experiments" / "privacy.py", "experiments.privacy")
SPECS = scripted.specs(local="scripted/near", cloud="scripted/far")
ROWS = [row for split in load(Dataset("privacy"), PROJECT) for row in split.rows]


class Wire(ScriptedEngine):
    """Keeps every text that a model was sent."""

    def __init__(self, private: Any) -> None:
        super().__init__(lambda model, inputs, demos: self._said(private, inputs))
        self.sent: list[tuple[str, str]] = []

    def _said(self, private: Any, inputs: Mapping[str, str]) -> Mapping[str, str]:
        named = private(inputs["message"]) if "message" in inputs else []
        return {"private": json.dumps(named), "action": "loan", "addressee": "Ann Lee"}

    def complete(self, request: Any) -> Any:
        system = request.system if isinstance(request.system, str) else "".join(p.text for p in request.system or ())
        self.sent += [(request.model, text) for text in (system, *(one.text or "" for one in request.messages))]
        return super().complete(request)

    def told(self, model: str) -> str:
        return "\n".join(text for name, text in self.sent if name == model)


def asked(folder: Path, message: str, private: Any, program: Any = None) -> tuple[Any, Wire]:
    wire = Wire(private)
    lms = ScriptedLMs(scripted.settings_in(folder, lm=SPECS), wire)
    for name in ("local", "cloud"):
        lms[name].cache = False  # what was asked in another test is asked again
    with offering(lms), dspy.context(lm=lms["task"], adapter=lms.adapter):
        return (program or FILE.Private)()(message=message), wire


def of(message: str) -> list[str]:
    return next(row["private"] for row in ROWS if row["message"] == message)


SANITISERS = {
    "names all": of,
    "names none": lambda message: [],
    "names half": lambda message: of(message)[::2],
    "makes something up": lambda message: ["Nobody Known", message[:5], message.split()[-1].lower()],
}


@pytest.mark.parametrize("sanitiser", SANITISERS)
def test_no_secret_of_the_dataset_reaches_the_cloud(tmp_path: Path, sanitiser: str) -> None:
    for row in ROWS[::10]:
        said, wire = asked(tmp_path, row["message"], SANITISERS[sanitiser])
        assert leaked(row["private"], wire.told("scripted/far")) == [], row["id"]
        assert said.request in wire.told("scripted/far")
        assert all(secret in wire.told("scripted/near") for secret in row["private"])
    assert said.reply == "Dear Ann Lee, a colleague will reckon with you what you can borrow."


NAME = st.builds("{}{}".format, st.sampled_from("BCDFGÅÉØŁ"), st.text("abcdefghåéøł", min_size=2, max_size=7))
SECRET = st.one_of(
    st.builds("{} {}".format, NAME, NAME),
    st.builds("{}@example.org".format, st.text("uvwxyz", min_size=4, max_size=9)),
    st.builds("+1 212 555 01{:02}".format, st.integers(0, 99)),
    st.builds("GB33 TEST {:04} {:04}".format, st.integers(0, 9999), st.integers(0, 9999)),
    st.builds("{} {} Lane, {}".format, st.integers(1, 300), NAME, NAME),
)


@limits(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None, max_examples=25)
@given(secrets=st.lists(SECRET, min_size=1, max_size=4), named=st.lists(st.booleans(), min_size=4, max_size=4), words=st.lists(st.sampled_from(["money", "is gone,", "please.", "call", "my wife", "\n"]), min_size=4, max_size=4))  # fmt: skip
def test_no_secret_of_any_message_reaches_the_cloud(
    tmp_path: Path, secrets: list[str], named: list[bool], words: list[str]
) -> None:
    message = " ".join(f"{secret} {word}" for secret, word in zip(secrets, words, strict=False))
    _, wire = asked(tmp_path, message, lambda message: [one for one, told in zip(secrets, named, strict=False) if told])
    assert leaked(secrets, wire.told("scripted/far")) == []


def test_the_plain_program_tells_the_cloud_everything(tmp_path: Path) -> None:
    row = ROWS[0]
    said, wire = asked(tmp_path, row["message"], SANITISERS["names none"], FILE.PlainPrivacy)
    assert leaked(row["private"], wire.told("scripted/far")) == row["private"]
    assert FILE.helped(dspy.Example(**row), said).parts["private"] == 0


def test_no_secret_reaches_the_cloud_while_optimizers_work(tmp_path: Path) -> None:
    """Demos, labels and what is trained on: a whole cascade, and all that the model in the cloud was sent."""
    wire = Wire(SANITISERS["names half"])
    settings = scripted.settings_in(tmp_path, lm=SPECS)
    lms = ScriptedLMs(settings, wire)
    some = {split.name: [dict(row) for row in split.rows[:20]] for split in load(Dataset("privacy"), PROJECT)}
    dataset = Dataset("privacy", inputs=["message"], **some)
    stages = (Stage("nearest", NearestDemos, k=3, order="rows"), small(labels=20)[1])
    defined = replace(discover("privacy", PROJECT), dataset=dataset, stages=stages)
    result = execute(prepare(defined, settings, lms))
    assert [stage.status for stage in result.stages] == ["done"] * 3
    secrets = [secret for rows in some.values() for row in rows for secret in row["private"]]
    assert len(wire.told("scripted/far")) > 10_000
    assert leaked(secrets, wire.told("scripted/far")) == []
    trained = {file.name: file.read_text() for file in (tmp_path / ".cascade" / "trained").iterdir()}
    far = [text for text in trained.values() if "request" in text]
    assert len(far) == 1
    assert leaked(secrets, far[0]) == []
    assert len(trained) == 2


EXPECTED = {"private": ["Ann Lee", "0123"], "action": "loan", "addressee": "Ann Lee"}


@pytest.mark.parametrize(
    ("said", "value", "private", "unsealed"),
    [
        ({"action": "loan", "addressee": "Ann Lee", "request": "[P1]", "draft": "[P1]"}, 1.0, 1, 1),
        ({"action": "loan", "addressee": "Lee", "request": "<name>", "draft": "Ann"}, 0.7 + 0.3 * 2 / 3, 1, 0.5),
        ({"action": "block", "addressee": "Ann Lee", "request": "Ann", "draft": "Ann 0123"}, 0.3, 0.5, 0),
        ({"action": "block", "addressee": "", "request": "Ann Lee 0123"}, 0.0, 0, 0),
    ],
)
def test_what_an_answer_is_worth(said: dict[str, str], value: float, private: float, unsealed: float) -> None:
    score = FILE.helped(dspy.Example(**EXPECTED), dspy.Prediction(**said))
    assert (score.value, score.parts["private"], score.parts["unsealed"]) == pytest.approx((value, private, unsealed))
    assert ("The cloud was told 'Ann Lee'." in score.feedback) == (private < 1)


@pytest.mark.parametrize(
    ("private", "draft"),
    [
        (["Bo Roe", "0123"], "I am [P1], [P2]; [P1]."),
        (["0123", "Bo Roe", "Bo Roe", "Cy", "at"], "I am [P1], [P2]; [P1]."),
        (["Roe"], "I am Bo [P1], 0123; Bo [P1]."),
        ([], "I am Bo Roe, 0123; Bo Roe."),
    ],
)
def test_what_the_local_model_lists_is_hidden(private: list[str], draft: str) -> None:
    assert FILE.hidden("I am Bo Roe, 0123; Bo Roe.", private) == draft


def test_every_secret_stands_in_its_message_and_in_no_other_split() -> None:
    seen: dict[str, str] = {}
    for split in load(Dataset("privacy"), PROJECT):
        for row in split.rows:
            assert all(secret in row["message"] for secret in row["private"]), row["id"]
            assert row["addressee"] in row["private"]
            assert leaked(row["private"], row["request"]) == []
            for secret in row["private"]:
                assert seen.setdefault(secret, split.name) == split.name


def test_the_check_has_nothing_to_ask_about(tmp_path: Path) -> None:
    settings = Settings(PROJECT, tmp_path, f"sqlite:///{tmp_path / 'mlflow.db'}", lm=SPECS)
    prepared = prepare(discover("privacy", PROJECT), settings, ScriptedLMs(settings, Wire(of)))
    found = examine(prepared)
    assert [str(finding) for finding in found if finding.severity != "note"] == []
    assert not any("one model today" in finding.sentence for finding in found)


def test_without_settings_it_is_said_that_both_names_are_one_model(tmp_path: Path) -> None:
    settings = scripted.settings_in(tmp_path)
    lms = ScriptedLMs(settings, Wire(of))
    found = examine(prepare(discover("privacy", PROJECT), replace(settings, project=PROJECT), lms))
    (said,) = [finding for finding in found if "one model today" in finding.sentence]
    assert (said.severity, said.sentence) == (
        "note",
        "the LMs 'local', 'cloud' that it asks for are one model today, scripted/base. Settings tell them apart: "
        "CASCADE_LM_CLOUD=….",
    )


def test_what_the_seal_stops_without_a_local_model_and_what_it_costs() -> None:
    """The figures of docs/experiments/privacy.md."""
    stopped = dict.fromkeys(("forms", "seal"), 0)
    for name, rule in (("forms", impersonal), ("seal", anonymous)):
        stopped[name] = sum(len(row["private"]) - len(leaked(row["private"], rule(row["message"]))) for row in ROWS)
    assert (sum(len(row["private"]) for row in ROWS), stopped) == (446, {"forms": 96, "seal": 446})
    harmless = [
        word for row in ROWS for word in FILE.hidden(row["message"], row["private"]).split() if "[P" not in word
    ]
    lost = sum(row["request"].count(stand_in) for row in ROWS for stand_in in ("<name>", "<number>", "<email>"))
    assert (len(harmless), lost) == (2780, 42)


@pytest.mark.slow
@pytest.mark.embedded
def test_the_embedded_models_keep_it_too(tmp_path: Path) -> None:
    """Both names are the embedded model; what the cloud's LM was sent is looked at as it is called."""
    sent: list[str] = []

    class Looking(BaseCallback):
        def on_lm_start(self, call_id: str, instance: Any, inputs: dict[str, Any]) -> None:
            sent.append(json.dumps(inputs, ensure_ascii=False, default=str))

    made = LMs(load_settings(PROJECT))
    made["cloud"].callbacks.append(Looking())
    with offering(made), dspy.context(lm=made["task"], adapter=made.adapter):
        program = FILE.Private()
        for row in ROWS[:12]:
            said = program(message=row["message"])
            assert said.action in FILE.ADVICE
    made.close()
    assert len(sent) == 12
    assert leaked([secret for row in ROWS[:12] for secret in row["private"]], "\n".join(sent)) == []
