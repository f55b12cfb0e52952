"""What is read from outside: `[tool.cascade]` in pyproject.toml, overridden by `CASCADE_<NAME>`.

Invariant: what is set in the environment is read here, and settings never hold a key. An LM is a
name for a model string and options; its key stays in the environment, where the provider's client finds it.
"""

import math
import os
import re
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from cascade.errors import SettingsError
from cascade.spending import Price

EMBEDDED = "embedded/smollm2-135m"
ROLES = ("task", "prompt", "teacher", "student")
"""LM names that optimizers ask for; programs may ask for more, such as `local` and `cloud`."""

_FIELDS = (
    "home", "lm", "threads", "force_format", "deterministic", "model_prefix", "experiment_prefix", "seed", "ledger_gb",
)  # fmt: skip
TOKEN = "CASCADE_TOKEN"
"""What a request to a server must hold: a key, so it is in the environment alone, and read by what serves."""
_NO_ANSWER_CHANGES = ("headers", "extra_headers", "num_retries", "max_retries", "timeout", "cache")
_SECRET = ("_key", "_token", "_secret", "password")
"""How the names of options end that are never looked at."""
_TRUE, _FALSE = ("1", "true", "yes", "on"), ("0", "false", "no", "off")


@dataclass(frozen=True)
class LMSpec:
    """A model by name: a DSPy model string, the options of `dspy.LM`, and a price where the user names one.

    >>> LMSpec.parse("openai/gpt-5-mini").model
    'openai/gpt-5-mini'
    >>> LMSpec.parse({"model": "openai/qwen", "api_base": "http://localhost:8000/v1"}).options
    {'api_base': 'http://localhost:8000/v1'}
    >>> LMSpec.parse({"model": "openai/qwen", "price": {"input": 0.1, "output": 0.4}}).price
    Price(input=0.1, output=0.4)
    """

    model: str
    options: Mapping[str, Any] = field(default_factory=dict)
    price: Price | None = None

    @classmethod
    def parse(cls, value: object, *, place: str = "lm") -> "LMSpec":
        """A model string or a table with `model`, options and `price`; raises `SettingsError`."""
        if isinstance(value, LMSpec):
            return value
        table = {"model": value} if isinstance(value, str) else value
        if not isinstance(table, Mapping) or not isinstance(table.get("model"), str) or "/" not in table["model"]:
            raise SettingsError(
                f"{place} = {value!r} is no model. Give a string like 'openai/gpt-5-mini' or '{EMBEDDED}', "
                "or a table with `model` and options."
            )
        options = {name: option for name, option in table.items() if name not in ("model", "price")}
        if options.get("cache", True) is not True:
            raise SettingsError(
                f"{place} has cache = {options['cache']!r}: its calls would go past the ledger and the budget. Remove "
                "it; `cascade run NAME --fresh` pays for every answer again."
            )
        timeout = options.get("timeout", 1)
        if isinstance(timeout, bool) or not isinstance(timeout, int | float) or not 0 < timeout < math.inf:
            raise SettingsError(f"{place} has timeout = {timeout!r}. Write seconds, a number above 0, such as 60.")
        retries = options.get("num_retries", 0)
        if isinstance(retries, bool) or not isinstance(retries, int) or retries < 0:
            raise SettingsError(f"{place} has num_retries = {retries!r}. Write a whole number from 0.")
        if "api_key" in options:
            raise SettingsError(
                f"{place} holds an api_key. Keys are never written into settings: remove it and set the "
                "provider's environment variable, such as OPENAI_API_KEY."
            )
        return cls(table["model"], options, _price(table["price"], place) if "price" in table else None)

    @property
    def embedded(self) -> bool:
        """Whether it runs in this process, without a key."""
        return self.model.startswith("embedded/")


@dataclass(frozen=True)
class Settings:
    """Where things are and which LMs are meant by which name.

    Args:
        project: folder that holds `experiments/` and `datasets/`.
        home: state: ledger, journals, weights, locks.
        tracking_uri: MLflow's store.
        lm: LM specs by name; `default` is used for every name that is not there.
        threads: examples evaluated at once; None chooses by LM.
        force_format: embedded models answer under a grammar made from the signature's output fields.
        deterministic: embedded models answer the same at temperature 0 whatever else runs; False is faster
            under concurrency and may answer differently between runs.
        model_prefix: put before an experiment's name in MLflow's registry of models and prompts: `main.ml.` for a
            catalog and schema of Databricks.
        experiment_prefix: put before the names of MLflow's experiments: `/Shared/` for a folder of Databricks.
        seed: of everything that draws; at least 1, because MIPROv2 reads 0 as "none given".
        ledger_gb: what the ledger's answers may take on disk, in 10^9 bytes; above it those used longest ago are
            dropped.
    """

    project: Path
    home: Path
    tracking_uri: str
    lm: Mapping[str, LMSpec] = field(default_factory=dict)
    threads: int | None = None
    force_format: bool = True
    deterministic: bool = True
    model_prefix: str = ""
    experiment_prefix: str = ""
    seed: int = 1
    ledger_gb: float = 10.0

    @property
    def ledger(self) -> Path:
        """The ledger's file."""
        return self.home / "ledger.db"

    def lm_named(self, name: str) -> LMSpec:
        """The spec that `name` means; the embedded model where nothing is set."""
        return self.lm.get(name) or self.lm.get("default") or LMSpec(EMBEDDED)

    def defining(self) -> dict[str, dict[str, Any]]:
        """What changes answers, for the run's signature: LMs with options but no secret, and how they are run."""
        return {
            "lms": {name: [model, self.asking(name)] for name, model in self.describe().items()},
            "settings": {
                "seed": self.seed, "force_format": self.force_format, "deterministic": self.deterministic,
            },
        }  # fmt: skip

    def asking(self, name: str) -> dict[str, Any]:
        """An LM's options that change its answers; no secret."""
        return {key: value for key, value in self.lm_named(name).options.items() if _defines(key)}

    def describe(self) -> dict[str, str]:
        """LM model strings by name, for params and reports: names only, never keys."""
        names = dict.fromkeys((*ROLES, *(name for name in self.lm if name != "default")))
        return {name: self.lm_named(name).model for name in names}


def load_settings(project: Path | None = None, environ: Mapping[str, str] | None = None) -> Settings:
    """Read the settings of the project around `project` (default: the working directory).

    Raises:
        SettingsError: an unknown name, a value of the wrong kind, or a malformed pyproject.toml.
    """
    environ = os.environ if environ is None else environ
    project = find_project(project or Path.cwd())
    table = {**_read_pyproject(project / "pyproject.toml"), **_read_environ(environ)}
    home = project / Path(str(table.get("home", ".cascade"))).expanduser()
    return Settings(
        project=project,
        home=home,
        tracking_uri=environ.get("MLFLOW_TRACKING_URI") or f"sqlite:///{project / 'mlflow.db'}",
        lm=_lms(table.get("lm", {}), environ),
        threads=_integer(table, "threads"),
        force_format=_boolean(table, "force_format"),
        deterministic=_boolean(table, "deterministic"),
        model_prefix=_prefix(table, "model_prefix", r"[A-Za-z0-9_.-]*", "letters, digits, '_', '-' and '.' only"),
        experiment_prefix=_prefix(
            table, "experiment_prefix", r"[^\s'\"`:]*", "a path without spaces, quotes and colons"
        ),
        seed=_integer(table, "seed") or 1,
        ledger_gb=_amount(table, "ledger_gb", Settings.ledger_gb),
    )


def find_project(start: Path) -> Path:
    """The nearest folder at or above `start` with an `experiments` folder, else `start` itself."""
    start = start.resolve()
    return next((folder for folder in (start, *start.parents) if (folder / "experiments").is_dir()), start)


def _defines(option: str) -> bool:
    return option not in _NO_ANSWER_CHANGES and not option.endswith(_SECRET)


def _read_pyproject(path: Path) -> dict[str, Any]:
    if not path.exists():
        return {}
    try:
        table: Any = tomllib.loads(path.read_text("utf-8"))
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise SettingsError(f"{path} is not valid TOML: {error}.") from None
    for name in ("tool", "cascade"):
        table = table.get(name, {})
        if not isinstance(table, Mapping):
            raise SettingsError(f"{path}: {table!r} stands where the table [tool.cascade] belongs. Make it a table.")
    for name in table:
        if name not in _FIELDS:
            raise SettingsError(
                f"[tool.cascade] in {path} has an unknown setting {name!r}. Known: {', '.join(_FIELDS)}."
            )
    return dict(table)


def _read_environ(environ: Mapping[str, str]) -> dict[str, Any]:
    names = {f"CASCADE_{name.upper()}": name for name in _FIELDS}
    for key in environ:
        if key.startswith("CASCADE_") and key not in (*names, TOKEN) and not key.startswith("CASCADE_LM_"):
            raise SettingsError(f"{key} is no setting. Known: {', '.join((*names, TOKEN))}, CASCADE_LM_<NAME>.")
    del names["CASCADE_LM"]  # read with the LMs by name
    return {names[key]: value for key, value in environ.items() if key in names and value}


def _lms(table: object, environ: Mapping[str, str]) -> dict[str, LMSpec]:
    table = {"default": table} if isinstance(table, str) or (isinstance(table, Mapping) and "model" in table) else table
    if not isinstance(table, Mapping):
        raise SettingsError(
            f"[tool.cascade] lm = {table!r} is no model string and no table of names. Write '{EMBEDDED}'."
        )
    specs = {name: LMSpec.parse(value, place=f"[tool.cascade.lm] {name}") for name, value in table.items()}
    if model := environ.get("CASCADE_LM"):
        specs = {"default": LMSpec.parse(model, place="CASCADE_LM")}
    for key, model in environ.items():
        if key.startswith("CASCADE_LM_") and model:
            specs[key.removeprefix("CASCADE_LM_").lower()] = LMSpec.parse(model, place=key)
    return specs


def _price(value: object, place: str) -> Price:
    table = value if isinstance(value, Mapping) else {}
    amounts = [table.get(name) for name in ("input", "output")]
    known = all(isinstance(one, int | float) and not isinstance(one, bool) and 0 <= one < math.inf for one in amounts)
    if not known or len(table) != len(amounts):
        raise SettingsError(
            f"{place} has price = {value!r}. Write dollars per million tokens: {{ input = 0.25, output = 2 }}."
        )
    return Price(*map(float, amounts))  # type: ignore[arg-type]


def _boolean(table: Mapping[str, Any], name: str) -> bool:
    value = table.get(name, True)
    text = str(value).lower()
    if text not in _TRUE + _FALSE:
        raise SettingsError(f"Setting {name} = {value!r} is neither true nor false. Write one of them.")
    return text in _TRUE


def _integer(table: Mapping[str, Any], name: str) -> int | None:
    value = table.get(name)
    if value is None:
        return None
    try:
        number = int(str(value))
    except ValueError:
        raise SettingsError(f"Setting {name} = {value!r} is no whole number. Write one from 1.") from None
    if number < 1:
        raise SettingsError(f"Setting {name} = {number} must be at least 1.")
    return number


def _prefix(table: Mapping[str, Any], name: str, allowed: str, words: str) -> str:
    value = str(table.get(name, ""))
    if not re.fullmatch(allowed, value):
        raise SettingsError(f"Setting {name} = {value!r} cannot begin a name in MLflow. Write {words}.")
    return value


def _amount(table: Mapping[str, Any], name: str, default: float) -> float:
    value = table.get(name, default)
    try:
        amount = float(str(value))
    except ValueError:
        amount = 0.0
    if not amount > 0:
        raise SettingsError(f"Setting {name} = {value!r} is no number above 0. Write one, such as {default:g}.")
    return amount
