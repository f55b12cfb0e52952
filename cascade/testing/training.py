"""A fake of OpenAI's files and fine-tuning jobs, as its API reference has them: upload, job, polling, a new model.

Invariant: it trains nothing, and the same rows give a model of the same name.
"""

import hashlib
import json
import re
import threading
from collections.abc import Mapping, Sequence
from http import HTTPStatus
from typing import Any

STATUSES = ("validating_files", "queued", "running", "succeeded")
"""Those of a job, one further each time it is looked at."""


class ScriptedJobs:
    """What `ScriptedEndpoint` answers under `/files` and `/fine_tuning/jobs`.

    Args:
        error: with it, jobs end as `failed` and say this.
    """

    def __init__(self, error: str = "") -> None:
        self.error = error
        self.files: dict[str, list[Any]] = {}
        self.jobs: dict[str, dict[str, Any]] = {}
        self.looked = 0
        self._lock = threading.Lock()

    def respond(self, method: str, path: str, body: bytes) -> tuple[int, Mapping[str, Any]]:
        """Status of HTTP and the JSON document for a request; `path` is what follows `/v1`."""
        words = [word for word in path.partition("?")[0].split("/") if word]
        with self._lock:
            try:
                if words[0] == "files":
                    return 200, self._file(words[1]) if method == "GET" else self._upload(body)
                if words == ["fine_tuning", "jobs"]:
                    return 200, self._begin(json.loads(body))
                if words[3:] == ["events"]:
                    return 200, self._events(self.jobs[words[2]])
                return 200, self._look(self.jobs[words[2]])
            except (LookupError, ValueError) as error:
                return HTTPStatus.NOT_FOUND, {"error": {"message": f"{method} {path}: {error!r}", "type": "scripted"}}

    def _upload(self, body: bytes) -> dict[str, Any]:
        rows = [json.loads(line) for line in re.findall(rb"^\{.*\}\r?$", body, re.MULTILINE)]
        name = f"file-{_digest(rows)}"
        self.files[name] = rows
        return self._file(name)

    def _file(self, name: str) -> dict[str, Any]:
        return {"id": name, "object": "file", "bytes": len(self.files[name]), "created_at": 1, "filename": "rows.jsonl",
                "purpose": "fine-tune", "status": "processed"}  # fmt: skip

    def _begin(self, asked: Mapping[str, Any]) -> dict[str, Any]:
        name = f"ftjob-{len(self.jobs)}"
        self.jobs[name] = {
            "id": name, "object": "fine_tuning.job", "created_at": 1, "finished_at": None, "model": asked["model"],
            "fine_tuned_model": None, "organization_id": "org", "result_files": [], "seed": 1, "status": STATUSES[0],
            "trained_tokens": None, "training_file": asked["training_file"], "validation_file": None, "error": None,
            "hyperparameters": asked.get("hyperparameters") or {}, "estimated_finish": None,
        }  # fmt: skip
        self._file(asked["training_file"])
        return self.jobs[name]

    def _look(self, job: dict[str, Any]) -> dict[str, Any]:
        self.looked += 1
        if job["status"] in STATUSES[:-1]:
            job["status"] = STATUSES[STATUSES.index(job["status"]) + 1]
        if job["status"] == STATUSES[-1]:
            digest = _digest([job["model"], self.files[job["training_file"]]])
            job |= {"fine_tuned_model": f"ft:{job['model']}:scripted:trained:{digest}", "finished_at": 2}
        if job["status"] == STATUSES[-1] and self.error:
            said = {"code": "scripted", "message": self.error, "param": None}
            job |= {"status": "failed", "fine_tuned_model": None, "error": said}
        return job

    def _events(self, job: Mapping[str, Any]) -> dict[str, Any]:
        event = {"id": f"{job['id']}-{job['status']}", "object": "fine_tuning.job.event", "created_at": 1,
                 "level": "info", "message": f"The job is {job['status']}", "type": "message"}  # fmt: skip
        return {"object": "list", "data": [event], "has_more": False}


def _digest(value: Sequence[Any]) -> str:
    return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()[:8]
