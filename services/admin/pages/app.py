"""The application of the pages, to be mounted at `/` beside the API."""

from __future__ import annotations

from fastapi import Depends, FastAPI, Request
from fastapi.exceptions import RequestValidationError
from starlette.datastructures import Headers, MutableHeaders
from starlette.exceptions import HTTPException
from starlette.responses import RedirectResponse, Response
from starlette.staticfiles import StaticFiles
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from services.admin.auth.route_permissions import PUBLIC, NotAllowed
from services.admin.pages import (
    account,
    authorisation_links,
    bulk,
    certificates,
    connection,
    connection_editing,
    connection_list,
    credentials,
    csv_import,
    documents,
    enabling,
    forwards,
    handlers,
    jump,
    login,
    mails,
    overview,
    people,
    quarantine,
    reference,
    rules,
    settings,
    trust,
    webhooks,
)
from services.admin.pages.forms import read_form
from services.admin.pages.progress_lines import ProgressLines
from services.admin.pages.rendering import STATIC, redirect, refusal
from services.admin.pages.request_context import PagesState
from shared.errors import Conflict, NotFound, PosthouseError, TryAgain


def build(state: PagesState) -> FastAPI:
    """The pages over `state`; `services.admin.auth.authentication` stands before them."""
    # Every route depends on `read_form`, so no form is taken without its CSRF token.
    app = FastAPI(
        openapi_url=None,
        redirect_slashes=False,  # which is absolute, and http behind a proxy; `_refused` does it
        dependencies=[Depends(read_form)],
        exception_handlers={
            PosthouseError: _failed,
            RequestValidationError: _malformed,
            HTTPException: _refused,
        },
    )
    app.add_middleware(_Leading)
    app.add_middleware(ProgressLines)
    app.state.pages_state = state
    app.mount("/static", _Files(directory=STATIC))
    app.add_api_route("/favicon.ico", _icon, dependencies=[PUBLIC])
    for part in (
        overview,
        jump,
        login,
        account,
        bulk,
        csv_import,
        connection_list,
        connection_editing,
        enabling,
        connection,
        authorisation_links,
        mails,
        quarantine,
        handlers,
        forwards,
        rules,
        certificates,
        credentials,
        people,
        settings,
        trust,
        webhooks,
        documents,
        reference,
    ):
        app.include_router(part.router)
    return app


class _Leading:
    """Tells a script of ours where a form leads on to, in place of leading it: only the browser
    itself is to fetch the next page, which shows its notice once."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        async def send_unredirected(message: Message) -> None:
            if message["type"] == "http.response.start" and message["status"] == 303:
                headers = MutableHeaders(raw=list(message["headers"]))
                headers["x-location"] = headers["location"]
                del headers["location"], headers["content-length"]
                message = {**message, "status": 204, "headers": headers.raw}
            await send(message)

        sent_here = scope["type"] == "http" and Headers(scope=scope).get("x-form") == "yes"
        await self._app(scope, receive, send_unredirected if sent_here else send)


class _Files(StaticFiles):
    """Our own files; their addresses change with their content, so browsers may keep them."""

    async def get_response(self, path: str, scope: Scope) -> Response:
        response = await super().get_response(path, scope)
        response.headers["cache-control"] = "public, max-age=31536000, immutable"
        response.headers["x-content-type-options"] = "nosniff"
        return response


def _icon() -> Response:
    return RedirectResponse("/static/posthouse.svg")


async def _failed(request: Request, error: Exception) -> Response:
    """What no page caught: after a form back to where it was, else a page of its own."""
    assert isinstance(error, PosthouseError)
    match error:
        case NotAllowed():
            status = 403
        case NotFound():
            status = 404
        case Conflict():
            status = 409
        case TryAgain():
            status = 503
        case _:
            status = 400
    if request.method == "POST" and status == 409:
        back = request.headers.get("referer", "")
        own = f"{request.url.scheme}://{request.url.netloc}/"
        if back.startswith(own):
            return redirect("/" + back.removeprefix(own), f"{error} {error.hint}".strip(), "bad")
    return refusal(request, status, str(error), error.hint)


async def _malformed(request: Request, error: Exception) -> Response:
    return refusal(request, 404, "There is no such page.")


async def _refused(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    path = request.url.path
    if error.status_code == 404 and request.method == "GET" and path.rstrip("/") not in ("", path):
        query = f"?{request.url.query}" if request.url.query else ""
        return redirect(path.rstrip("/") + query)
    if error.status_code == 404:
        return refusal(request, 404, "There is no such page.")
    if error.status_code == 405 and request.method == "GET":  # a form's answer, opened again
        return redirect(
            path.rpartition("/")[0] or "/", "That page is the answer to a form: start from here."
        )
    return refusal(request, error.status_code, error.detail)
