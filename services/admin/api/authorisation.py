"""`/api/v1/connections/{id}/authorize`, `/revoke` and `/api/v1/oauth/callback`."""

from __future__ import annotations

from fastapi import APIRouter, Request
from starlette.responses import JSONResponse, Response

from services.admin.api.problems import problem_of, responses
from services.admin.api.requests import Ctx, IdInPath, beside
from services.admin.api.schemas.connections import AuthorisationOut, AuthorizeOut, RevokedOut
from services.admin.operations import authorisation
from services.admin.pages.rendering import go
from services.admin.people.authentication import session_of
from services.admin.people.authorization import OPERATE, principal_of
from shared.errors import PosthouseError

router = APIRouter(tags=["authorisation"])


@router.post(
    "/connections/{connection_id}/authorize", dependencies=[OPERATE], responses=responses(404, 502)
)
async def authorize(request: Request, ctx: Ctx, connection_id: IdInPath) -> AuthorizeOut:
    """Begins a login at the provider. The browser (or token) that began it has to finish it."""
    by = _session(request)
    address = await beside(request, lambda: authorisation.start(ctx, connection_id, session=by))
    return AuthorizeOut(authorization_url=address)


@router.post(
    "/connections/{connection_id}/revoke", dependencies=[OPERATE], responses=responses(404)
)
async def revoke(request: Request, ctx: Ctx, connection_id: IdInPath) -> RevokedOut:
    """Forgets the tokens and takes the grant back at the provider."""
    confirmed = await beside(request, lambda: authorisation.revoke(ctx, connection_id))
    return RevokedOut(confirmed=confirmed)


@router.get(
    "/oauth/callback",
    dependencies=[OPERATE],
    response_model=AuthorisationOut,
    responses={**responses(502), 303: {"description": "Back to the page of the connection"}},
)
async def callback(request: Request, ctx: Ctx) -> Response:
    """Where providers send the browser back to, with `code` and `state` or an `error`."""
    by, query = _session(request), dict(request.query_params)
    in_browser = session_of(request) is not None
    try:
        connection, done = await beside(
            request, lambda: authorisation.finish(ctx, query, session=by)
        )
    except PosthouseError as error:
        if in_browser:
            return go("/connections", f"{error} {error.hint}".strip(), "bad")
        return problem_of(error)
    if in_browser:
        text = f"{connection.name} is authorised as {done.account}."
        return go(f"/connections/{connection.id}", text)
    return JSONResponse(AuthorisationOut.model_validate(done).model_dump(mode="json"))


def _session(request: Request) -> str:
    """Names who asks: the browser's session, or the token."""
    signed_in = session_of(request)
    if signed_in is not None:
        return f"session {signed_in.digest.hex()}"
    return f"token {principal_of(request).name}"
