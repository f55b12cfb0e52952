"""The routes.

Invariant: a body is read only as far as its limit, and only when there is a place for its request.
"""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

from fastapi import FastAPI, Request
from fastapi.responses import JSONResponse, Response
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect

from cascade.mlflow_store.registry import CHAMPION
from cascade.production.serving.edge import HEALTH, Call, Edge
from cascade.production.serving.forms import Form
from cascade.production.serving.meters import CONTENT_TYPE
from cascade.production.serving.openapi import document
from cascade.production.serving.problems import Problem
from cascade.production.serving.service import Service

KEY_HEADER = "x-cascade-key"
Answer = Callable[[Request, Call], Awaitable[Response]]


def application(service: Service, *, name: str, token: str = "") -> Edge:
    """The ASGI application of an experiment.

    Args:
        name: of the experiment.
        token: see `Edge`.
    """
    # Routes read their bodies themselves, up to a limit, so FastAPI is told what they take by `document`.
    app = FastAPI(title=name, redoc_url=None, redirect_slashes=False)
    routes: dict[tuple[str, str], Answer] = {
        ("POST", "/predict"): _predict(service),
        ("POST", "/feedback"): _feedback(service),
        ("GET", HEALTH): _healthz,
        ("GET", "/readyz"): _readyz(service),
        ("GET", "/metrics"): _metrics(service),
    }
    for (method, path), answer in routes.items():
        app.router.add_route(path, _route(path, answer), methods=[method])
    documents: dict[int, tuple[Form, dict[str, Any]]] = {}

    def openapi() -> dict[str, Any]:
        form = service.form
        version = service.live.now[CHAMPION].number
        if documents.get(0, (None,))[0] is not form:
            documents[0] = form, document(name, version, form, guarded=bool(token))
        return documents[0][1]

    app.openapi = openapi  # type: ignore[method-assign]
    app.add_exception_handler(Problem, _problem)
    app.add_exception_handler(HTTPException, _http)
    app.add_exception_handler(Exception, _mistake)
    return Edge(app, token=token, meters=service.meters, log=service.log)


def _route(path: str, answer: Answer) -> Callable[[Request], Awaitable[Response]]:
    async def routed(request: Request) -> Response:
        call: Call = request.scope["state"]["call"]
        call.route = path
        return await answer(request, call)

    return routed


def _predict(service: Service) -> Answer:
    async def predict(request: Request, call: Call) -> Response:
        service.admit()
        key = request.headers.get(KEY_HEADER, "")
        if len(key) > 256:
            raise Problem(422, "X-Cascade-Key has more than 256 characters.")
        async with read(request, service) as body:
            return Response(await service.answer(body, key, call), media_type="application/json")

    return predict


def _feedback(service: Service) -> Answer:
    async def feedback(request: Request, call: Call) -> Response:
        async with read(request, service) as body:
            return Response(await service.feedback(body, call), media_type="application/json")

    return feedback


@asynccontextmanager
async def read(request: Request, service: Service) -> AsyncIterator[bytes]:
    """The body of a request, of which the service holds the bytes until the request is answered.

    Raises:
        Problem: it is no JSON by its type, is too long, does not come in time, or there is no room for it.
    """
    found = bytearray()
    try:
        await _fill(found, request, service)
        yield bytes(found)
    finally:
        service.held -= len(found)


async def _fill(found: bytearray, request: Request, service: Service) -> None:
    most, seconds = service.limits.body, service.limits.seconds
    if request.headers.get("content-type", "").partition(";")[0].strip().lower() != "application/json":
        raise Problem(415, "Send the body with Content-Type: application/json.")
    if int(request.headers.get("content-length", 0)) > most:
        raise _too_large(most)
    try:
        async with asyncio.timeout(seconds):
            async for chunk in request.stream():
                found += chunk
                service.hold(len(chunk))
                if len(found) > most:
                    raise _too_large(most)
    except ClientDisconnect:
        raise Problem(400, "The connection ended before the body did.") from None
    except TimeoutError:
        raise Problem(408, f"The body did not come within {seconds:g} s.", headers={"Connection": "close"}) from None


def _too_large(most: int) -> Problem:
    return Problem(413, f"The body is larger than {most} bytes.", headers={"Connection": "close"})


async def _healthz(_request: Request, _call: Call) -> Response:
    return JSONResponse({"alive": True})


def _readyz(service: Service) -> Answer:
    async def readyz(_request: Request, _call: Call) -> Response:
        loaded = {alias: served.number for alias, served in service.live.now.items()}
        ready = CHAMPION in loaded and not service.ending
        if not ready:
            raise Problem(503, "The server is ending." if service.ending else "Nothing is loaded.")
        return JSONResponse({"ready": True, "versions": loaded, "store_seen": round(service.live.seen, 3)})

    return readyz


def _metrics(service: Service) -> Answer:
    async def metrics(_request: Request, _call: Call) -> Response:
        return Response(service.meters.text(), headers={"Content-Type": CONTENT_TYPE})

    return metrics


async def _problem(request: Request, error: Exception) -> Response:
    assert isinstance(error, Problem)
    call: Call = request.scope["state"]["call"]
    if error.reason:
        call.facts["reason"] = error.reason
    return error.response(call.id)


async def _http(request: Request, error: Exception) -> Response:
    """What Starlette raises: no such route, no such method, a client that went away."""
    assert isinstance(error, HTTPException)
    problem = Problem(error.status_code, f"{error.detail}.", headers=error.headers)
    return problem.response(request.scope["state"]["call"].id)


async def _mistake(request: Request, _error: Exception) -> Response:
    """A fault of ours; Starlette raises it again, and the edge writes it down."""
    return Problem(500, "The server made a mistake.").response(request.scope["state"]["call"].id)
