"""The application: API and pages. Who asks is found out in front of all of it."""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Final

from fastapi import APIRouter, FastAPI
from fastapi.openapi.utils import get_openapi
from starlette.datastructures import MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from services.admin import problems
from services.admin.api import (
    authorisation,
    bulk,
    certificates,
    connections,
    credentials,
    csv_import,
    forwards,
    handlers,
    messages,
    overview,
    parts,
    people,
    quarantine,
    revocations,
    webhooks,
)
from services.admin.auth.authentication import Authentication
from services.admin.auth.bootstrap_token import BootstrapToken
from services.admin.auth.browser_logins import BrowserLogins
from services.admin.auth.request_principals import RequestPrincipals
from services.admin.auth.route_permissions import declared
from services.admin.auth.token_guesses import TokenGuesses
from services.admin.body_limits import BodyLimit
from services.admin.context import AppState
from services.admin.disconnects import DisconnectWatching
from services.admin.pages import app as pages
from services.admin.pages.rendering import refusal
from services.admin.pages.request_context import PagesState
from services.admin.request_timeouts import BodyTimeout
from shared.allowed_hosts import HostRules
from shared.telemetry import metrics
from shared.telemetry.service_lifecycle import release

if TYPE_CHECKING:
    from services.admin.auth.oidc import Oidc

PREFIX: Final = "/api/v1"
_ROUTERS: Final[tuple[APIRouter, ...]] = (
    csv_import.router,
    bulk.router,  # before: its words stand where an id may
    connections.router,
    authorisation.router,
    certificates.router,
    certificates.anchors,
    certificates.senders,
    credentials.router,
    handlers.router,
    handlers.own,
    forwards.router,
    messages.router,
    quarantine.router,
    parts.router,
    overview.router,
    people.router,
    revocations.router,
    webhooks.router,
)


def build_app(app_state: AppState) -> ASGIApp:
    """The ASGI application. Nothing is contacted before the first request.

    Raises RuntimeError where a route does not declare who may use it.
    """
    settings = app_state.settings
    token = settings.admin_token
    bootstrap = BootstrapToken(token.get_secret_value() if token else None)
    who = (app_state.database, app_state.vault, bootstrap, TokenGuesses())
    logins = BrowserLogins(*who)
    api = build_api(app_state)
    site = pages.build(PagesState(app_state, logins, _oidc(app_state, logins)))
    for app in (api, site):
        declared(app)
    sides = DisconnectWatching(_Sides(api, site))
    known = Authentication(sides, RequestPrincipals(*who), settings.public_url, refusal)
    bounded = BodyLimit(BodyTimeout(known))
    return Counted(bounded, https=settings.public_url.startswith("https://"))


def build_api(app_state: AppState) -> FastAPI:
    """The API alone, without asking who is there."""
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
    app.state.app_state = app_state
    for router in _ROUTERS:
        app.include_router(router, prefix=PREFIX)
    problems.install(app)
    app.openapi = lambda: _openapi(app)  # type: ignore[method-assign]
    return app


class _Sides:
    """The API on one side, the pages on the other."""

    def __init__(self, api: ASGIApp, pages: ASGIApp) -> None:
        self._api = api
        self._pages = pages

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        path = scope.get("path", "")
        await (self._api if path.startswith("/api/") else self._pages)(scope, receive, send)


#: A year (RFC 6797): whoever came over HTTPS once does not come without it again.
_HSTS: Final = "max-age=31536000"
#: Those that are counted by name: a caller may make up any, and each would be a series of its own.
_METHODS: Final = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"})
#: What an answer is that says nothing else of itself: kept nowhere, of the type that it names, in
#: no frame, and nothing in it is run or loaded.
_BY_DEFAULT: Final[Mapping[str, str]] = {
    "cache-control": "no-store",
    "content-security-policy": "default-src 'none'; frame-ancestors 'none'",
    "referrer-policy": "same-origin",
    "x-content-type-options": "nosniff",
    "x-frame-options": "DENY",
}


class Counted:
    """Counts every answer by its route's template, and adds what all of them carry."""

    def __init__(self, app: ASGIApp, *, https: bool) -> None:
        self._app = app
        self._https = https

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        started = time.monotonic()

        async def noted(message: Message) -> None:
            if message["type"] == "http.response.start":
                route = getattr(scope.get("route"), "path", "none")
                method = scope["method"] if scope["method"] in _METHODS else "other"
                metrics.HTTP_REQUESTS.labels(method, route, message["status"]).inc()
                metrics.HTTP_SECONDS.labels(route).observe(time.monotonic() - started)
                headers = MutableHeaders(scope=message)
                if self._https:
                    headers["strict-transport-security"] = _HSTS
                for name, value in _BY_DEFAULT.items():
                    headers.setdefault(name, value)
            await send(message)

        await self._app(scope, receive, noted)


def _oidc(app_state: AppState, logins: BrowserLogins) -> Oidc | None:
    settings = app_state.settings
    if not settings.oidc_issuer:
        return None
    from services.admin.auth.oidc import (
        Oidc,
        OidcProvider,
    )  # heavy, and most stacks have no issuer
    from services.admin.auth.oidc_groups import Groups

    secret = settings.oidc_client_secret
    callback = settings.public_url.rstrip("/") + "/login/oidc/callback"
    provider = OidcProvider(
        settings.oidc_issuer,
        settings.oidc_client_id,
        secret.get_secret_value() if secret else None,
        callback,
        settings.oidc_ca or "",
        HostRules.of(settings),
        Groups(settings.oidc_groups_claim, settings.oidc_groups),
        settings.oidc_scopes,
    )
    return Oidc(provider, app_state.database, logins)


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
