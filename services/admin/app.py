"""The application: API, health and metrics behind one gate."""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable
from typing import Any, Final

from fastapi import APIRouter, FastAPI, Request, Response
from fastapi.openapi.utils import get_openapi
from fastapi.responses import JSONResponse
from prometheus_client.exposition import CONTENT_TYPE_LATEST, generate_latest
from starlette.responses import PlainTextResponse

from services.admin.api import (
    certificates,
    connections,
    credentials,
    handlers,
    messages,
    overview,
    problems,
)
from services.admin.context import House
from services.admin.limits import BodyLimit, WrongTokens
from services.admin.people.access import Access
from services.admin.people.gate import Gate
from shared.telemetry import metrics
from shared.telemetry.health import Heartbeat, Readiness, live_answer, ready_answer
from shared.telemetry.process import release

PREFIX: Final = "/api/v1"
_ROUTERS: Final[tuple[APIRouter, ...]] = (
    connections.router,
    certificates.router,
    certificates.anchors,
    credentials.router,
    handlers.router,
    messages.router,
    messages.quarantined,
    overview.router,
)


def build_app(house: House, heartbeat: Heartbeat, readiness: Readiness) -> FastAPI:
    """The ASGI application. Nothing is contacted before the first request."""
    app = FastAPI(
        title="Posthouse",
        version=release(),
        description="Watches mailboxes and hands every new mail, decrypted, to the programs that "
        "act on it. Every call carries `Authorization: Bearer` and a token; errors are problems "
        "as in RFC 9457.",
        openapi_url=f"{PREFIX}/openapi.json",
        docs_url=None,  # its assets would come from elsewhere
        redoc_url=None,
        redirect_slashes=False,
    )
    app.state.house = house
    for router in _ROUTERS:
        app.include_router(router, prefix=PREFIX)
    _add_health(app, heartbeat, readiness)
    problems.install(app)
    app.openapi = lambda: _openapi(app)  # type: ignore[method-assign]
    token = house.settings.admin_token
    access = Access(house.database, token.get_secret_value() if token else None)
    # The last one added sees a request first.
    app.middleware("http")(_count)
    app.add_middleware(Gate, access=access, refusal=_refusal)
    app.add_middleware(WrongTokens)
    app.add_middleware(BodyLimit)
    return app


def _add_health(app: FastAPI, heartbeat: Heartbeat, readiness: Readiness) -> None:
    @app.get("/healthz", include_in_schema=False)
    async def healthz() -> JSONResponse:
        status, body = live_answer(heartbeat)
        return JSONResponse(body, status)

    @app.get("/readyz", include_in_schema=False)
    def readyz() -> JSONResponse:
        status, body = ready_answer(readiness)
        return JSONResponse(body, status)

    @app.get("/metrics", include_in_schema=False)
    def prometheus() -> Response:
        return Response(generate_latest(metrics.REGISTRY), media_type=CONTENT_TYPE_LATEST)


async def _count(request: Request, call_next: Callable[[Request], Awaitable[Response]]) -> Response:
    started = time.monotonic()
    response = await call_next(request)
    route = getattr(request.scope.get("route"), "path", "none")
    metrics.HTTP_REQUESTS.labels(request.method, route, response.status_code).inc()
    metrics.HTTP_SECONDS.labels(route).observe(time.monotonic() - started)
    if request.url.path.startswith(PREFIX):
        response.headers.setdefault("Cache-Control", "no-store")
        response.headers.setdefault("X-Content-Type-Options", "nosniff")
    return response


def _refusal(_: Request, status: int, message: str, hint: str) -> Response:
    return PlainTextResponse(f"{message}\n{hint}\n", status)


def _openapi(app: FastAPI) -> dict[str, Any]:
    if app.openapi_schema is None:
        schema = get_openapi(
            title=app.title,
            version=app.version,
            description=app.description,
            routes=app.routes,
        )
        schema["components"]["securitySchemes"] = {"token": {"type": "http", "scheme": "bearer"}}
        schema["security"] = [{"token": []}]
        app.openapi_schema = schema
    return app.openapi_schema
