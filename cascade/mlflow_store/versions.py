"""Versions of an experiment's model in MLflow's registry, and the aliases that say which one serves.

Invariant: a version is known by its tags alone, which cascade wrote when the version was made.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from cascade.errors import TrackingError
from cascade.mlflow_store.registry import CHALLENGER, REJECTED

CHAMPION, PREVIOUS = "champion", "previous"
MOVED = "cascade.moved"
"""Tag of a version: the promotion log's entry that last took it into service, once MLflow followed it."""


@dataclass(frozen=True)
class Version:
    """A version of a model.

    Args:
        number: `1`, `2`, …
        program: hash of what it does.
        run, stage: of cascade, that made it.
        model_id: of MLflow's LoggedModel.
    """

    number: str
    program: str
    run: str
    stage: str
    model_id: str
    tags: Mapping[str, str]

    @property
    def rejected(self) -> bool:
        """Whether it was rolled back."""
        return REJECTED in self.tags


class Versions:
    """The versions of one registered model.

    Args:
        client: an `MlflowClient`.
        name: of the model, prefix included.
    """

    def __init__(self, client: Any, name: str) -> None:
        self.client = client
        self.name = name

    def all(self) -> list[Version]:
        """Those that cascade made, newest first; none where there is no such model."""
        found = self.client.search_model_versions(f"name = '{self.name}'", max_results=10_000)
        made = [_version(version) for version in found if version.tags.get("cascade.model_id")]
        return sorted(made, key=lambda version: -int(version.number))

    def numbered(self, number: str) -> Version:
        """One version; raises `TrackingError` where it is not there."""
        found = next((version for version in self.all() if version.number == number), None)
        if found is None:
            raise TrackingError(f"{self.name!r} has no version {number!r} in MLflow. It was deleted, or never there.")
        return found

    def aliases(self) -> dict[str, str]:
        """Version number by alias."""
        from mlflow.exceptions import MlflowException

        try:
            model = self.client.get_registered_model(self.name)
        except MlflowException as error:
            if error.error_code in ("RESOURCE_DOES_NOT_EXIST", "NOT_FOUND"):
                return {}
            raise
        return {alias: str(number) for alias, number in model.aliases.items()}

    def point(self, alias: str, number: str) -> None:
        """Let an alias name a version; "" takes it away."""
        standing = self.aliases().get(alias, "")
        if number and standing != number:
            self.client.set_registered_model_alias(self.name, alias, number)
        elif standing and not number:
            self.client.delete_registered_model_alias(self.name, alias)

    def tag(self, number: str, tags: Mapping[str, str]) -> None:
        """Set tags of a version; an empty value takes one away."""
        present = self.numbered(number).tags
        for key, value in tags.items():
            if value and present.get(key) != value:
                self.client.set_model_version_tag(self.name, number, key, value)
            elif not value and key in present:
                self.client.delete_model_version_tag(self.name, number, key)

    def serve(self, number: str, previous: str, rejected: str, moved: str, tags: Mapping[str, str]) -> None:
        """Make aliases and tags say that a version serves; may be repeated after it was cut off.

        Args:
            number, previous: version that serves, and that can be gone back to; "" is none.
            rejected: version that was rolled back for it, or "".
            moved: the log's entry that this follows.
            tags: of the version that serves.
        """
        if rejected:
            self.tag(rejected, {REJECTED: moved})
        self.point(CHAMPION, number)
        self.point(PREVIOUS, previous)
        if self.aliases().get(CHALLENGER) in {number, rejected}:
            self.point(CHALLENGER, "")
        if number:
            self.tag(number, {**tags, REJECTED: "", MOVED: moved})


def _version(version: Any) -> Version:
    tags = dict(version.tags)
    program, run, stage, model = (
        tags.get(f"cascade.{name}", "") for name in ("program", "run_id", "stage", "model_id")
    )
    return Version(str(version.version), program, run, stage, model, tags)
