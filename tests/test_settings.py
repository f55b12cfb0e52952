"""Settings: pyproject.toml below the environment, and one line for whatever is wrong."""

from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given
from hypothesis import settings as given_settings
from hypothesis import strategies as st

from cascade.errors import SettingsError
from cascade.settings import EMBEDDED, ROLES, LMSpec, find_project, load_settings
from cascade.spending import Price


def project(folder: Path, table: str = "") -> Path:
    (folder / "experiments").mkdir(exist_ok=True)
    (folder / "pyproject.toml").write_text(table, "utf-8")
    return folder


def test_without_anything_everything_has_a_default(tmp_path: Path) -> None:
    found = load_settings(project(tmp_path), {})
    assert found.home == tmp_path / ".cascade"
    assert found.tracking_uri == f"sqlite:///{tmp_path / 'mlflow.db'}"
    assert (found.threads, found.seed, found.force_format, found.deterministic) == (None, 1, True, True)
    assert (found.ledger, found.ledger_gb) == (tmp_path / ".cascade" / "ledger.db", 10.0)
    assert found.describe() == dict.fromkeys(ROLES, EMBEDDED)
    assert found.lm_named("anything").embedded


def test_without_a_pyproject_too(tmp_path: Path) -> None:
    assert load_settings(tmp_path, {}).project == tmp_path


@pytest.mark.parametrize(
    ("table", "environ", "name", "value"),
    [
        ("threads = 3", {}, "threads", 3),
        ("threads = 3", {"CASCADE_THREADS": "5"}, "threads", 5),
        ("threads = 3", {"CASCADE_THREADS": ""}, "threads", 3),
        ("seed = 7", {}, "seed", 7),
        ("deterministic = false", {}, "deterministic", False),
        ("deterministic = false", {"CASCADE_DETERMINISTIC": "yes"}, "deterministic", True),
        ("", {"CASCADE_FORCE_FORMAT": "OFF"}, "force_format", False),
        ("", {"CASCADE_FORCE_FORMAT": "0"}, "force_format", False),
        ('model_prefix = "team."', {}, "model_prefix", "team."),
        ("ledger_gb = 2.5", {}, "ledger_gb", 2.5),
        ("ledger_gb = inf", {"CASCADE_LEDGER_GB": "0.1"}, "ledger_gb", 0.1),
        ("", {"MLFLOW_TRACKING_URI": "http://store:5000"}, "tracking_uri", "http://store:5000"),
    ],
)
def test_the_environment_wins_over_pyproject(
    tmp_path: Path, table: str, environ: dict[str, str], name: str, value: Any
) -> None:
    assert getattr(load_settings(project(tmp_path, f"[tool.cascade]\n{table}"), environ), name) == value


@pytest.mark.parametrize(
    ("home", "expected"), [("state", "{project}/state"), ("/var/state", "/var/state"), ("", "{project}/.cascade")]
)
def test_home_is_relative_to_the_project(tmp_path: Path, home: str, expected: str) -> None:
    found = load_settings(project(tmp_path), {"CASCADE_HOME": home})
    assert str(found.home) == expected.format(project=tmp_path)


@pytest.mark.parametrize(
    ("table", "environ", "models"),
    [
        ('lm = "openai/a"', {}, dict.fromkeys(ROLES, "openai/a")),
        ('[tool.cascade.lm]\nmodel = "openai/a"\ntemperature = 0.5', {}, dict.fromkeys(ROLES, "openai/a")),
        ('[tool.cascade.lm]\ntask = "openai/t"', {}, {"task": "openai/t", "prompt": EMBEDDED}),
        ('[tool.cascade.lm]\ndefault = "openai/d"\ntask = "openai/t"', {}, {"task": "openai/t", "teacher": "openai/d"}),
        ('lm = "openai/a"', {"CASCADE_LM_PROMPT": "openai/p"}, {"task": "openai/a", "prompt": "openai/p"}),
        ('[tool.cascade.lm]\ntask = "openai/t"', {"CASCADE_LM": "openai/all"}, dict.fromkeys(ROLES, "openai/all")),
        ("", {"CASCADE_LM": "openai/all", "CASCADE_LM_CLOUD": "openai/c"}, {"task": "openai/all", "cloud": "openai/c"}),
        ("", {"CASCADE_LM": "", "CASCADE_LM_TASK": ""}, dict.fromkeys(ROLES, EMBEDDED)),
    ],
)
def test_which_lm_a_name_means(tmp_path: Path, table: str, environ: dict[str, str], models: dict[str, str]) -> None:
    text = table if table.startswith("[") else f"[tool.cascade]\n{table}"
    described = load_settings(project(tmp_path, text), environ).describe()
    assert {name: described[name] for name in models} == models


def test_an_lm_keeps_its_options(tmp_path: Path) -> None:
    table = '[tool.cascade.lm.local]\nmodel = "openai/qwen"\napi_base = "http://localhost:1/v1"'
    spec = load_settings(project(tmp_path, table), {}).lm_named("local")
    assert spec == LMSpec("openai/qwen", {"api_base": "http://localhost:1/v1"})


def test_a_price_is_no_option_and_changes_no_answer(tmp_path: Path) -> None:
    table = '[tool.cascade.lm.local]\nmodel = "openai/qwen"\nprice = { input = 0, output = 0.4 }'
    priced = load_settings(project(tmp_path, table), {})
    assert priced.lm_named("local") == LMSpec("openai/qwen", {}, Price(0.0, 0.4))
    assert priced.defining() == load_settings(project(tmp_path, table.partition("price")[0]), {}).defining()


WRONG = [
    *(
        (f'[tool.cascade.lm.task]\nmodel = "openai/a"\nprice = {price}', {}, ["[tool.cascade.lm] task has price = ", "dollars per million tokens: { input"])
        for price in ("3", "{ input = 1 }", "{ input = 1, output = -1 }", "{ input = 1, output = nan }", "{ input = 1, output = true }",
                      "{ input = 1, output = 1, cached = 1 }", '{ input = "1", output = 1 }')
    ),
    ('[tool.cascade]\nthread = 3', {}, ["unknown setting 'thread'", "Known: home, lm, threads", "pyproject.toml"]),
    ('[tool.cascade]\nthreads = 0', {}, ["threads = 0", "at least 1"]),
    ('[tool.cascade]\nthreads = "many"', {}, ["threads = 'many'", "no whole number"]),
    ("", {"CASCADE_THREAD": "2"}, ["CASCADE_THREAD is no setting", "Known: CASCADE_HOME, CASCADE_LM, CASCADE_THREADS", "CASCADE_LM_<NAME>"]),
    ("", {"CASCADE_SEED": "0"}, ["seed = 0", "at least 1"]),
    ("", {"CASCADE_SEED": "1.5"}, ["seed = '1.5'", "no whole number"]),
    ("", {"CASCADE_DETERMINISTIC": "perhaps"}, ["deterministic = 'perhaps'", "true", "false"]),
    ('[tool.cascade]\nlm = "gpt"', {}, ["[tool.cascade.lm] default = 'gpt'", "is no model", "'openai/gpt-5-mini'"]),
    ("[tool.cascade]\nlm = 3", {}, ["lm = 3", "is no model string"]),
    ('[tool.cascade.lm]\ntask = 3', {}, ["[tool.cascade.lm] task = 3", "is no model"]),
    ('[tool.cascade.lm.task]\ntemperature = 0', {}, ["[tool.cascade.lm] task", "is no model"]),
    ("", {"CASCADE_LM": "gpt"}, ["CASCADE_LM = 'gpt'", "is no model"]),
    ("", {"CASCADE_LM_TASK": "gpt"}, ["CASCADE_LM_TASK = 'gpt'", "is no model"]),
    ("[tool.cascade]\nledger_gb = 0", {}, ["ledger_gb = 0", "no number above 0", "such as 10"]),
    ("", {"CASCADE_LEDGER_GB": "10GB"}, ["ledger_gb = '10GB'", "no number above 0"]),
    ("[tool.cascade]\nledger_gb = nan", {}, ["ledger_gb = nan", "no number above 0"]),
    ('[tool.cascade.lm.task]\nmodel = "openai/a"\ncache = false', {}, ["[tool.cascade.lm] task has cache = False", "past the ledger", "--fresh"]),
    ("[tool.cascade", {}, ["pyproject.toml is not valid TOML"]),
    ("[tool]\ncascade = 3", {}, ["pyproject.toml", "[tool.cascade]", "3"]),
    ("tool = 3", {}, ["pyproject.toml", "[tool.cascade]", "3"]),
]  # fmt: skip


@pytest.mark.parametrize(("table", "environ", "told"), WRONG)
def test_what_is_wrong_is_quoted_with_place_and_fix(
    tmp_path: Path, table: str, environ: dict[str, str], told: list[str]
) -> None:
    with pytest.raises(SettingsError) as caught:
        load_settings(project(tmp_path, table), environ)
    message = str(caught.value)
    assert [part for part in told if part not in message] == []
    assert "\n" not in message


def test_a_key_is_never_a_setting_and_never_quoted(tmp_path: Path) -> None:
    table = '[tool.cascade.lm.task]\nmodel = "openai/a"\napi_key = "sk-canary"'
    with pytest.raises(SettingsError) as caught:
        load_settings(project(tmp_path, table), {})
    message = str(caught.value)
    assert "[tool.cascade.lm] task" in message
    assert "OPENAI_API_KEY" in message
    assert "sk-canary" not in message


def test_the_project_is_found_from_below(tmp_path: Path) -> None:
    project(tmp_path)
    below = tmp_path / "datasets" / "qa"
    below.mkdir(parents=True)
    assert find_project(below) == tmp_path
    assert load_settings(below, {}).project == tmp_path


@pytest.mark.parametrize(
    ("name", "value"), [("model_prefix", "main/ml."), ("model_prefix", "a b"), ("experiment_prefix", "/Users/o'neill/")]
)
def test_a_prefix_that_begins_no_name_is_refused(tmp_path: Path, name: str, value: str) -> None:
    with pytest.raises(SettingsError, match=f"Setting {name} = ") as refused:
        load_settings(tmp_path, {f"CASCADE_{name.upper()}": value})
    assert repr(value) in str(refused.value)


def test_prefixes_of_databricks_are_taken(tmp_path: Path) -> None:
    found = load_settings(tmp_path, {"CASCADE_MODEL_PREFIX": "main.ml.", "CASCADE_EXPERIMENT_PREFIX": "/Shared/team/"})
    assert (found.model_prefix, found.experiment_prefix) == ("main.ml.", "/Shared/team/")


_ANY = st.one_of(st.text(max_size=8), st.integers(), st.floats(), st.booleans(), st.lists(st.integers(), max_size=2),
                 st.dictionaries(st.text(max_size=4), st.text(max_size=4), max_size=2))  # fmt: skip


@given(_ANY)
def test_any_value_is_a_spec_or_a_settings_error(value: Any) -> None:
    try:
        spec = LMSpec.parse(value)
    except SettingsError as error:
        assert repr(value) in str(error)
    else:
        assert "/" in spec.model


@given_settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    name=st.sampled_from(
        [
            "THREADS",
            "SEED",
            "DETERMINISTIC",
            "FORCE_FORMAT",
            "LM",
            "LM_TASK",
            "LEDGER_GB",
            "MODEL_PREFIX",
            "EXPERIMENT_PREFIX",
        ]
    ),
    value=st.text(max_size=6),
)
def test_any_environment_loads_or_is_a_settings_error(tmp_path: Path, name: str, value: str) -> None:
    try:
        found = load_settings(tmp_path, {f"CASCADE_{name}": value})
    except SettingsError as error:
        assert value.strip() in str(error) or repr(value) in str(error)
    else:
        assert found.seed >= 1
        assert found.threads is None or found.threads >= 1
