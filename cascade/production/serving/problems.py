"""What goes wrong, as a small JSON document.

Invariant: a client is told what it can do about it, and neither a stack trace nor what a model, a provider or the file
system said: that stands in the log, redacted, under the same request id.
"""

from collections.abc import Mapping
from typing import Any

from dspy.utils.exceptions import ContextWindowExceededError, is_retryable_lm_error
from fastapi.responses import JSONResponse

CODES = {
    400: "bad_request", 401: "unauthorized", 404: "not_found", 405: "method_not_allowed", 408: "body_timeout",
    409: "enough", 413: "too_large", 415: "not_json", 422: "unfit", 500: "internal", 502: "program_failed",
    503: "unavailable", 504: "timeout",
}  # fmt: skip


class Problem(Exception):
    """An answer that is none.

    Args:
        status: of HTTP.
        message: one sentence for the client.
        headers: such as `Retry-After`.
        details: of a request that does not fit: `field` and `message` each.
        reason: for the log.
    """

    def __init__(
        self,
        status: int,
        message: str,
        *,
        headers: Mapping[str, str] | None = None,
        details: list[dict[str, str]] | None = None,
        reason: str = "",
    ) -> None:
        super().__init__(message)
        self.status, self.message, self.reason = status, message, reason
        self.headers, self.details = dict(headers or {}), details

    def response(self, request_id: str) -> JSONResponse:
        """As it is sent."""
        code = CODES.get(self.status, "error")
        error: dict[str, Any] = {"code": code, "message": self.message, "request_id": request_id}
        if self.details:
            error["details"] = self.details
        return JSONResponse({"error": error}, self.status, self.headers)


def busy(reason: str = "") -> Problem:
    """All places are taken."""
    return Problem(503, "The server answers as many requests as it can.", headers={"Retry-After": "1"}, reason=reason)


def failed(error: Exception, reason: str) -> Problem:
    """A program that raised: whether it may pass the next time, and whose fault it is."""
    if isinstance(error, ContextWindowExceededError):
        return Problem(422, "The request is too long for the model.", reason=reason)
    if is_retryable_lm_error(error):
        rest = getattr(error, "retry_after", None)
        seconds = min(60, max(1, round(rest))) if isinstance(rest, int | float) else 1
        said = "The model does not answer at present."
        return Problem(503, said, headers={"Retry-After": str(seconds)}, reason=reason)
    return Problem(502, f"The program failed ({type(error).__name__}).", reason=reason)
