"""The prompts of a run's kept programs as versions in MLflow's prompt registry.

Invariant: one text is one version. A prompt that an earlier run had already found is linked to, not written again.
"""

import hashlib
import json
from collections.abc import Callable, Mapping
from typing import Any

from cascade.program import Snapshot, prompts

LINKED = "mlflow.linkedPrompts"
"""Tag of a run that MLflow shows as its registered prompts."""
_EXPERIMENTS = "_mlflow_experiment_ids"
"""Tag of a prompt that puts it among those of an experiment, in the form that MLflow writes."""
_LONGEST = 100_000
_PAGE = 1000


class NameTaken(Exception):
    """A model stands in the registry under a prompt's name."""


def texts(taken: Snapshot, name: Callable[[str], str]) -> dict[str, str]:
    """Instructions and demos in Markdown by the prompt's name, one a predictor.

    Args:
        name: of a predictor's prompt; of the only one's for "".
    """
    states = {path: state for path, state in taken.state.items() if _has_instructions(state)}
    return {
        name(path if len(states) > 1 else ""): _cut(prompts(Snapshot({path: state}, taken.lms)))
        for path, state in states.items()
    }


def register(client: Any, experiment_id: str, name: str, text: str, tags: Mapping[str, str]) -> dict[str, str]:
    """The version of a prompt that holds `text`, written if there is none; as MLflow links to it.

    Args:
        tags: of a version that is written; Unity Catalog takes no dot in their names.

    Raises:
        NameTaken: the name is a model's.
    """
    _open(client, experiment_id, name)
    version = next((known.version for known in _versions(client, name) if known.template == text), None)
    if version is None:
        said = f"{tags['cascade_stage']} of run {tags['cascade_run']}"
        version = client.create_prompt_version(name, text, description=said, tags=dict(tags)).version
    return {"name": name, "version": str(version)}


def linked(versions: list[dict[str, str]]) -> dict[str, str]:
    """Tags of a run that has these prompts."""
    return {LINKED: json.dumps(versions)} if versions else {}


def _open(client: Any, experiment_id: str, name: str) -> None:
    """Have a prompt of this name, and have it among those of the experiment."""
    from mlflow.exceptions import MlflowException

    try:
        client.create_prompt(name, tags={_EXPERIMENTS: f",{experiment_id},"})
    except MlflowException as error:
        if error.error_code not in ("RESOURCE_ALREADY_EXISTS", "ALREADY_EXISTS"):
            raise
    found = client.get_prompt(name)
    if found is None:
        client.get_registered_model(name)  # raises what kept the prompt from being read, if it is no model's name
        raise NameTaken(name)
    shown = str(found.tags.get(_EXPERIMENTS, "")).strip(",").split(",")
    if experiment_id not in shown:
        client.set_prompt_tag(name, _EXPERIMENTS, f",{','.join(one for one in (*shown, experiment_id) if one)},")


def _versions(client: Any, name: str) -> list[Any]:
    found, token = [], None
    while True:
        page = client.search_prompt_versions(name, max_results=_PAGE, page_token=token)
        found += list(page)
        token = page.token
        if not token:
            return found


def _has_instructions(state: Any) -> bool:
    return isinstance(state, Mapping) and isinstance(state.get("signature"), Mapping)


def _cut(text: str) -> str:
    """At most `_LONGEST` characters; the hash of the whole tells two texts apart that begin alike."""
    if len(text) <= _LONGEST:
        return text
    end = f"…\n\n({len(text):,} characters in all, SHA-256 {hashlib.sha256(text.encode()).hexdigest()[:12]})"
    return text[: _LONGEST - len(end)] + end
