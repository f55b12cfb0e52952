"""A run's best program as a version in MLflow's model registry, proposed as challenger.

Invariant: a run makes one version at most, and none where it found nothing better than the champion that it began
from; the alias `challenger` only moves forward: never to an older run's program, and never to a program that was
rejected or that serves already.
"""

import json
from typing import Any

from cascade.experiment import NO_LEVER
from cascade.journal import RunRecord

CHALLENGER, CHAMPION = "challenger", "champion"
REJECTED = "rejected"
"""Tag of a version that was rolled back."""
_DESCRIPTION = 5000
_PROPOSED = "cascade.proposed"
"""Tag of a version that had its turn as challenger; sending a journal again must not give it another."""


def propose(client: Any, run: RunRecord, best: dict[str, Any], name: str) -> str:
    """Register the best stage's model once, and once make it the challenger; returns the version.

    Args:
        best: the stage's notes: `run_id`, `model_id`, and `program`, the hash of what it does; `aim` and `margin` of
            one that was to be cheaper; `lever`, which is `none` of the program that the run began from.
        name: of the registered model.
    """
    tags = {
        "cascade.run_id": run.id,
        "cascade.stage": run.best_stage,
        "cascade.proven": str(bool(run.proven)).lower(),
        "cascade.program": best.get("program", ""),
        "cascade.model_id": best["model_id"],
        **{f"cascade.{name}": best[name] for name in ("aim", "margin") if name in best},
    }
    versions = _versions(client, name, run)
    found = next((version for version in versions if version.tags.get("cascade.run_id") == run.id), None)
    if not found and best.get("lever") == NO_LEVER:
        serving = _aliases(client, name).get(CHAMPION)
        same = (str(version.version) for version in versions if version.tags.get("cascade.program") == best["program"])
        if serving and serving in same:
            return serving
    version = found or _create(client, name, run, best, tags)
    for key, value in tags.items():
        if version.tags.get(key) != value:
            client.set_model_version_tag(name, version.version, key, value)
    _show_on_model(client, best["model_id"], name, str(version.version))
    if _PROPOSED not in version.tags:
        if _may_challenge(client, name, run, versions, tags["cascade.program"]):
            client.set_registered_model_alias(name, CHALLENGER, version.version)
        client.set_model_version_tag(name, version.version, _PROPOSED, "true")
    return str(version.version)


def _versions(client: Any, name: str, run: RunRecord) -> list[Any]:
    from mlflow.exceptions import MlflowException

    try:
        client.create_registered_model(name, description=f"Programs of the experiment `{run.experiment}`.")
    except MlflowException as error:
        if error.error_code not in ("RESOURCE_ALREADY_EXISTS", "ALREADY_EXISTS"):
            raise
    return list(client.search_model_versions(f"name = '{name}'", max_results=10_000))


def _create(client: Any, name: str, run: RunRecord, best: dict[str, Any], tags: dict[str, str]) -> Any:
    # A server resolves models:/ itself and refuses plain paths; a database is asked in this process, where MLflow
    # would look the model up in its global store instead of the client's.
    remote = client.tracking_uri.startswith("http")
    source = f"models:/{best['model_id']}" if remote else client.get_logged_model(best["model_id"]).artifact_location
    return client.create_model_version(
        name,
        source,
        best["run_id"],
        tags=tags,
        description=run.summary[:_DESCRIPTION] or f"`{run.best_stage}` of run {run.id}",
        model_id=best["model_id"],
    )


def _show_on_model(client: Any, model_id: str, name: str, version: str) -> None:
    """The badge on MLflow's Models page, in the form that `mlflow.register_model` writes."""
    key = "mlflow.modelVersions"
    shown = json.loads(client.get_logged_model(model_id).tags.get(key, "[]"))
    if (badge := {"name": name, "version": version}) not in shown:
        client.set_logged_model_tags(model_id, {key: json.dumps([*shown, badge])})


def _may_challenge(client: Any, name: str, run: RunRecord, versions: list[Any], program: str) -> bool:
    aliases = _aliases(client, name)
    same = [version for version in versions if version.tags.get("cascade.program") == program]
    if any(REJECTED in version.tags or str(version.version) == aliases.get(CHAMPION) for version in same):
        return False
    number = aliases.get(CHALLENGER, "")
    standing = next((version for version in versions if str(version.version) == number), None)
    return standing is None or standing.tags.get("cascade.run_id", "") <= run.id


def _aliases(client: Any, name: str) -> dict[str, str]:
    return {alias: str(number) for alias, number in client.get_registered_model(name).aliases.items()}
