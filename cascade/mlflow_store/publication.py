"""One sending of a journal to MLflow.

Invariant: `published.json` in the run's folder notes what was sent, after it was sent; what is not noted is looked for
by tag before it is made. A run's terminal status is the last thing sent.
"""

import contextlib
import hashlib
import json
from collections.abc import Callable
from functools import cached_property, partial
from pathlib import Path
from typing import Any

from cascade.errors import CascadeError, ExperimentError, ModelError
from cascade.journal import STAGE_FILES, Journal, StageRecord
from cascade.mlflow_store import content, models, prompts, traces
from cascade.mlflow_store.entry import Entry, milliseconds
from cascade.mlflow_store.links import traces_path, views_in_markdown
from cascade.mlflow_store.names import Names
from cascade.mlflow_store.registry import propose
from cascade.mlflow_store.store import experiment_id, redact
from cascade.mlflow_store.views import experiment_tags
from cascade.program import Snapshot
from cascade.redaction import plain_source

NOTES = "published.json"
RUN_FILES = ("decisions.json", "headroom.json", "report.html")
Weights = Callable[[str], Path | None]


class Publication:
    """A journal on its way to a store that answers.

    Args:
        client: an `MlflowClient`.
        weights: see `MlflowTracker`.
    """

    def __init__(self, client: Any, uri: str, journal: Journal, weights: Weights, names: Names) -> None:
        self.client = client
        self.uri = uri
        self.journal = journal
        self.weights = weights
        self.names = names
        # Hashes first: what is written after them, beside this sending, differs from them and is sent next time.
        self.now = digests(journal)
        self.run = content.writable(journal.run)
        self.stages = [content.writable(stage) for stage in journal.stages() if stage.folder in self.now]
        self.notes = _notes(journal, uri)

    def send(self) -> None:
        """Send what was not sent; raises what MLflow raises."""
        noted = self._noted_parent()
        if noted is None:
            self.notes = {"stages": {}}
        now, before = self.now, self.notes.get("digest", "")
        changed = [stage for stage in self.stages if self._noted(stage).get("digest") != now[stage.folder]]
        if noted and not changed and before == now[""]:
            return
        parent = noted or self._parent()
        self._open(parent)
        for stage in changed:
            self._send_stage(stage, parent.id)
            self._note(stage.folder, digest=now[stage.folder])
        self._close(parent)
        self._save(digest=now[""])

    @cached_property
    def experiment(self) -> str:
        """Id of the experiment, whose tags are brought up to date."""
        found = experiment_id(self.client, self.uri, self.names.experiment(self.run.experiment))
        tags = {**experiment_tags(), "mlflow.note.content": content.experiment_note(self.run, views_in_markdown(found))}
        known = self.client.get_experiment(found).tags
        for key, value in tags.items():
            if known.get(key) != value:
                self.client.set_experiment_tag(found, key, value)
        return found

    @cached_property
    def datasets(self) -> dict[str, Any]:
        """MLflow's datasets by split: name, fingerprint and origin, no rows."""
        dataset = self.run.dataset.partition("@")[0]
        return {name: _dataset(f"{dataset}-{name}", split) for name, split in self.run.splits.items()}

    def _noted_parent(self) -> Entry | None:
        """The run that was noted, if it is still there and the experiment's."""
        entry = self._existing(self.notes.get("run_id"))
        return entry if entry and self.notes.get("experiment_id") == self.experiment else None

    def _parent(self) -> Entry:
        name, tags = (
            content.run_name(self.run),
            content.run_tags(self.run, self.stages, views_in_markdown(self.experiment)),
        )
        entry = self._existing(self._known.get("")) or self._create(name, self.run.started, tags)
        self._save(uri=redact(self.uri), experiment_id=self.experiment, run_id=entry.id)
        return entry

    def _open(self, parent: Entry) -> None:
        parent.status("RUNNING", None)
        parent.tags(content.run_tags(self.run, self.stages, views_in_markdown(self.experiment)))
        parent.params(content.params(self.run.params))
        parent.inputs(self.datasets)

    def _close(self, parent: Entry) -> None:
        parent.metrics(content.run_metrics(self.run))
        parent.steps("best_dev_score", content.best_scores(self.stages))
        parent.files(path for name in RUN_FILES if (path := self.journal.folder / name).exists())
        best = self._noted_by_name(self.run.best_stage)
        if self.run.status in content.REGISTERED and self.run.best_stage != "0-baseline" and best.get("model_id"):
            facts, name = best | self._kind(self.run.best_stage), self.names.model(self.run.experiment)
            self._save(version=propose(self.client, self.run, facts, name))
        parent.status(content.RUN_STATUS.get(self.run.status, "FINISHED"), self.run.ended)

    def _kind(self, folder: str) -> dict[str, str]:
        """What a stage changes, and what the gate must know of one that aimed at cheaper."""
        stage = next(stage for stage in self.stages if stage.folder == folder)
        return {"lever": stage.lever} | {key: stage.params[key] for key in ("aim", "margin") if key in stage.params}

    def _send_stage(self, stage: StageRecord, parent: str) -> None:
        tags = content.stage_tags(self.run, stage)
        started = stage.started or stage.ended or self.run.started
        entry = self._existing(self._noted(stage).get("run_id")) or self._existing(self._known.get(stage.folder))
        entry = entry or self._create(stage.folder, started, {**tags, "mlflow.parentRunId": parent})
        self._note(stage.folder, run_id=entry.id)
        entry.params(content.params(stage.params))
        if stage.status == "done":
            self._send_judgement(stage, entry)
            self._send_prompts(stage, entry)
        else:
            entry.metrics(content.stage_metrics(self.run, stage))
        self._send_files(stage, entry)
        page = self._send_traces(stage, entry)
        entry.tags(content.stage_tags(self.run, stage, **page))
        entry.status("FAILED" if stage.status == "failed" else "FINISHED", stage.ended or started)

    def _send_judgement(self, stage: StageRecord, entry: Entry) -> None:
        """Model, then inputs, then linked metrics, then the rest: otherwise MLflow shows metrics twice."""
        metrics, on_test = content.stage_metrics(self.run, stage), content.rounded(stage.test_metrics)
        model = self._model(stage, entry)
        wanted = {"dev", "test"} if on_test else {"dev"}
        entry.inputs({name: dataset for name, dataset in self.datasets.items() if name in wanted})
        on_dev = {name: value for name, value in metrics.items() if name.startswith(("dev_", "part_"))}
        linked = {"dev": on_dev, "test": on_test}
        for split, figures in linked.items():
            if model is not None and split in self.datasets:
                entry.linked(figures, model, self.datasets[split])
            else:
                entry.metrics(figures)
        entry.metrics({name: value for name, value in metrics.items() if name not in on_dev})

    def _model(self, stage: StageRecord, entry: Entry) -> Any:
        """The stage's LoggedModel; None, and a tag that says why, for a program that cannot be loaded elsewhere."""
        try:
            package = models.package(self.journal, stage, self.weights)
        except (ExperimentError, ModelError) as error:
            entry.tags({"cascade.no_model": str(error)[:5000]})
            return None
        model = models.log(self.client, self.experiment, entry.id, package, content.stage_note(self.run, stage))
        self._note(stage.folder, model_id=model.model_id, program=package.digest)
        return model

    def _send_prompts(self, stage: StageRecord, entry: Entry) -> None:
        """Those of a program that was kept, linked to the run and to its experiment."""
        state = content.writable(self.journal.read(f"{stage.folder}/program.json"))
        if (stage.number and stage.kept != "new") or not isinstance(state, dict):
            return
        tags = {"cascade_run": self.run.id, "cascade_stage": stage.folder, "mlflow_run": entry.id}
        texts = prompts.texts(Snapshot(state, stage.lms), partial(self.names.prompt, self.run.experiment))
        try:
            versions = [
                prompts.register(self.client, self.experiment, name, text, tags) for name, text in texts.items()
            ]
        except prompts.NameTaken as taken:
            entry.tags({"cascade.no_prompt": f"{taken} is a model's name."})
            return
        entry.tags(prompts.linked(versions))

    def _send_files(self, stage: StageRecord, entry: Entry) -> None:
        folder = self.journal.folder / stage.folder
        there = [folder / name for name in STAGE_FILES if (folder / name).exists()]
        entry.files(path for path in there if path.name != "examples.json")
        for path in there:
            if path.name == "examples.json":
                entry.table(path, json.loads(path.read_text("utf-8")))
            elif path.name == "candidates.jsonl":
                rows = [json.loads(line) for line in path.read_text("utf-8").splitlines()]
                entry.steps("candidate_score", {int(row["step"]): round(float(row["score"]), 4) for row in rows})

    def _send_traces(self, stage: StageRecord, entry: Entry) -> dict[str, str]:
        """Returns where they stand, beside those of the program that the stage started from."""
        table, noted = content.writable(self.journal.read(f"{stage.folder}/examples.json")), self._noted(stage)
        examples = traces.answered(entry.id, stage, table, noted.get("model_id", ""))
        if noted.get("traces", "") != (digest := traces.digest(examples)):
            traces.send(self.uri, self.experiment, entry.id, examples, f"experiments/{self.run.experiment}.py")
            self._note(stage.folder, traces=digest)
        if not examples:
            return {}
        incumbent = content.incumbent(stage, self.stages)
        beside = self._noted_by_name(incumbent).get("run_id", "")
        return {"traces": traces_path(self.experiment, entry.id, beside), "incumbent": incumbent}

    @cached_property
    def _known(self) -> dict[str, str]:
        """Run ids by stage that an earlier attempt made; the parent's under ''."""
        runs = self.client.search_runs(
            [self.experiment],
            filter_string=f"tags.`cascade.run_id` = '{self.run.id}'",
            order_by=["attributes.start_time DESC"],
            max_results=1000,
        )
        return {run.data.tags.get("cascade.stage", ""): run.info.run_id for run in runs}

    def _existing(self, run_id: str | None) -> Entry | None:
        if not run_id:
            return None
        from mlflow.exceptions import MlflowException

        try:
            run = self.client.get_run(run_id)
        except MlflowException as error:
            if error.error_code == "RESOURCE_DOES_NOT_EXIST":
                return None
            raise
        return Entry(self.client, run) if run.info.lifecycle_stage == "active" else None

    def _create(self, name: str, started: float, tags: dict[str, str]) -> Entry:
        run = self.client.create_run(self.experiment, milliseconds(started) or None, tags=tags, run_name=name)
        return Entry(self.client, run)

    def _noted(self, stage: StageRecord) -> dict[str, Any]:
        return self._noted_by_name(stage.folder)

    def _noted_by_name(self, folder: str) -> dict[str, Any]:
        return dict(self.notes.get("stages", {}).get(folder, {}))

    def _note(self, folder: str, **facts: Any) -> None:
        stages = self.notes.setdefault("stages", {})
        stages[folder] = {**stages.get(folder, {}), **facts}
        self._save()

    def _save(self, **facts: Any) -> None:
        self.notes |= facts
        self.journal.write(NOTES, self.notes)


def sent(journal: Journal, uri: str | None) -> dict[str, str]:
    """What `digests` was when it was sent to `uri`; None is any store."""
    notes = _notes(journal, uri)
    stages = {folder: facts.get("digest", "") for folder, facts in notes["stages"].items()}
    return {"": notes.get("digest", ""), **stages}


def version_of(journal: Journal, uri: str) -> str:
    """The registered version of a run's best program, by the notes in its journal; "" where there is none."""
    return str(_notes(journal, uri).get("version", ""))


def digests(journal: Journal) -> dict[str, str]:
    """Hash of each stage's record and files, and under '' of the run's."""
    spent = journal.run.spent_by_stage
    names = [stage.folder for stage in journal.stages()]
    files = ("record.json", *STAGE_FILES)
    found = {name: _hash(journal.folder / name, files, json.dumps(spent.get(name))) for name in names}
    return {"": _hash(journal.folder, ("run.json", *RUN_FILES)), **found}


def _hash(folder: Path, names: tuple[str, ...], also: str = "") -> str:
    total = hashlib.sha256(also.encode())
    for name in names:
        with contextlib.suppress(FileNotFoundError):
            total.update(f"{name}\0".encode() + hashlib.sha256((folder / name).read_bytes()).digest())
    return total.hexdigest()[:16]


def _notes(journal: Journal, uri: str | None) -> dict[str, Any]:
    """What was noted for this store (None: for any); nothing, if the notes are another store's or damaged."""
    with contextlib.suppress(CascadeError):
        notes = journal.read(NOTES)
        if isinstance(notes, dict) and (uri is None or notes.get("uri") == redact(uri)):
            return {"stages": {}, **notes}
    return {"stages": {}}


def _dataset(name: str, split: Any) -> Any:
    from mlflow.entities import Dataset

    source = plain_source(str(split.get("source", "")))
    columns = [{"type": "any", "name": field, "required": False} for field in split.get("fields", ())]
    return Dataset(
        name=name,
        digest=str(split["fingerprint"]),
        source_type="http" if source.startswith("http") else "local",
        source=json.dumps({"url" if source.startswith("http") else "uri": source}),
        schema=json.dumps({"mlflow_colspec": columns}),
        profile=json.dumps({"num_rows": split.get("rows")}),
    )
