"""A fake of an OpenAI-compatible server, for what only a real connection shows: keys, time-outs, cut-off answers.

Invariant: it listens on the loopback interface only, and what it does depends on the requests alone.
"""

import json
import threading
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field, replace
from functools import partial
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from cascade.testing.scripted import Answerer, fields, formatted, output_fields
from cascade.testing.training import ScriptedJobs


@dataclass(frozen=True)
class Reply:
    """What a `ScriptedEndpoint` does instead of answering well.

    Args:
        status: of HTTP; an error echoes the key that it was sent, as bad servers do.
        body: sent in place of an answer.
        cut: bytes after which the connection is closed, though more were promised.
        hang: send nothing until the endpoint is closed.
        headers: such as `{"Retry-After": "1"}`.
    """

    status: int = 200
    body: str | None = None
    cut: int | None = None
    hang: bool = False
    headers: Mapping[str, str] = field(default_factory=dict)


class ScriptedEndpoint:
    """An OpenAI-compatible endpoint on the loopback interface, for what only a real connection shows.

    >>> with ScriptedEndpoint(lambda model, inputs, demos: {"answer": inputs["question"].upper()}) as endpoint:
    ...     lm = dspy.LM("openai/any", api_base=endpoint.url, api_key="any", cache=False)
    ...     with dspy.context(lm=lm):
    ...         dspy.Predict("question -> answer")(question="hi").answer
    'HI'

    Args:
        reply: given the number of the request, from 0, and the input fields; None answers by the script.
        key: what must be sent as `Authorization: Bearer …`; None takes anything.
        jobs: what it says of files and fine-tuning.
    """

    def __init__(
        self,
        answer: Answerer,
        *,
        reply: Callable[[int, Mapping[str, str]], Reply | None] = lambda _number, _inputs: None,
        key: str | None = None,
        jobs: ScriptedJobs | None = None,
    ) -> None:
        self.answer, self.reply, self.key = answer, reply, key
        self.jobs = jobs or ScriptedJobs()
        self.asked: list[Mapping[str, str]] = []
        self.closed = threading.Event()
        self._lock = threading.Lock()
        self._server = _Server(("127.0.0.1", 0), partial(_Handler, self))
        self.url = f"http://127.0.0.1:{self._server.server_port}/v1"

    def __enter__(self) -> "ScriptedEndpoint":
        threading.Thread(target=self._server.serve_forever, args=(0.02,), daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self.closed.set()
        self._server.shutdown()
        self._server.server_close()

    def respond(self, request: Mapping[str, Any], authorization: str) -> Reply:
        """The reply to a request of chat completions."""
        texts = [str(message["content"]) for message in request["messages"]]
        system = texts[0] if request["messages"][0]["role"] == "system" else ""
        inputs = fields(texts[-1])
        with self._lock:
            number = len(self.asked)
            self.asked.append(inputs)
        if self.key is not None and authorization != f"Bearer {self.key}":
            return Reply(401)
        demos = sum(message["role"] == "assistant" for message in request["messages"])
        reply = self.reply(number, inputs) or Reply()
        if reply.body is not None or reply.status != 200:
            return reply
        told = self.answer(str(request["model"]), inputs, demos)
        text = told if isinstance(told, str) else formatted(told, output_fields(system))
        tokens = {"prompt_tokens": sum(len(t.split()) for t in texts), "completion_tokens": len(text.split())}
        choice = {"index": 0, "finish_reason": "stop", "message": {"role": "assistant", "content": text}}
        body = {"id": "1", "object": "chat.completion", "created": 1, "model": request["model"], "choices": [choice],
                "usage": {**tokens, "total_tokens": sum(tokens.values())}}  # fmt: skip
        return replace(reply, body=json.dumps(body))


class _Server(ThreadingHTTPServer):
    request_queue_size = 128  # with the default of 5, connections of a busy machine are dropped


class _Handler(BaseHTTPRequestHandler):
    def __init__(self, endpoint: ScriptedEndpoint, *args: Any) -> None:
        self.endpoint = endpoint
        super().__init__(*args)

    def do_GET(self) -> None:
        """Answer a question about a file or a job."""
        self._say(*self._asked_of_jobs(b""))

    def do_POST(self) -> None:
        """Answer a request."""
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        if self.path.startswith(("/v1/files", "/v1/fine_tuning")):
            self._say(*self._asked_of_jobs(body))
        else:
            sent = self.headers.get("Authorization", "")
            self._say(self.endpoint.respond(json.loads(body), sent), sent)

    def _asked_of_jobs(self, body: bytes) -> tuple[Reply, str]:
        sent = self.headers.get("Authorization", "")
        if self.endpoint.key is not None and sent != f"Bearer {self.endpoint.key}":
            return Reply(401), sent
        status, document = self.endpoint.jobs.respond(self.command, self.path.removeprefix("/v1"), body)
        return Reply(status, body=json.dumps(document)), sent

    def _say(self, reply: Reply, sent: str) -> None:
        if reply.hang:
            self.endpoint.closed.wait()
        echo = json.dumps({"error": {"message": f"status {reply.status} for {sent}", "type": "scripted"}})
        body = (echo if reply.body is None else reply.body).encode()
        with suppress(OSError):  # who asked may be gone
            self.send_response(reply.status)
            for name, value in {"Content-Type": "application/json", **reply.headers}.items():
                self.send_header(name, value)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body[: reply.cut])

    def log_message(self, format: str, *args: Any) -> None:
        """Say nothing."""
