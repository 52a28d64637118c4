"""`/api/v1/connections/{id}/authorize`, `/revoke` and `/api/v1/oauth/callback`."""

from __future__ import annotations

from fastapi import APIRouter, Request
from starlette.responses import JSONResponse, Response

from services.admin.api.requests import Ctx, IdInPath, beside
from services.admin.api.schemas.connections import AuthorisationOut, AuthorizeOut, RevokedOut
from services.admin.operations import authorisation, consents
from services.admin.people.authentication import session_of
from services.admin.people.authorization import OPERATE_ON_PART, principal_of
from services.admin.problems import problem_of, responses
from services.admin.redirecting import go
from shared.errors import PosthouseError
from shared.logins import Others

router = APIRouter(tags=["authorisation"])


@router.post(
    "/connections/{connection_id}/authorize",
    dependencies=[OPERATE_ON_PART],
    responses=responses(404, 502),
)
async def authorize(request: Request, ctx: Ctx, connection_id: IdInPath) -> AuthorizeOut:
    """Begins a login at the provider. The browser (or token) that began it has to finish it."""
    by = _session(request)
    address = await beside(request, lambda: authorisation.start(ctx, connection_id, session=by))
    return AuthorizeOut(authorization_url=address)


@router.post(
    "/connections/{connection_id}/revoke",
    dependencies=[OPERATE_ON_PART],
    responses=responses(404, 409),
)
async def revoke(
    request: Request, ctx: Ctx, connection_id: IdInPath, others: Others = Others.ASK
) -> RevokedOut:
    """Forgets the tokens and takes the grant back at the provider.

    Some providers end with it the whole grant of that person and application. Where other
    connections live on it, this is refused (`grant-shared`) until `others` says what becomes of
    them: `end` ends them too, `keep` only forgets the tokens here.
    """
    confirmed = await beside(request, lambda: authorisation.revoke(ctx, connection_id, others))
    return RevokedOut(confirmed=confirmed)


@router.get(
    "/oauth/callback",
    dependencies=[OPERATE_ON_PART],
    response_model=AuthorisationOut,
    responses={**responses(502), 303: {"description": "Back to the page of the connection"}},
)
async def callback(request: Request, ctx: Ctx) -> Response:
    """Where providers send the browser back to, with `code` and `state` or an `error`; after an
    administrator of a tenant was asked for consent, with what became of it."""
    by, query = _session(request), dict(request.query_params)
    in_browser = session_of(request) is not None
    consent = consents.landed(query)
    if consent is not None:
        if in_browser:
            return go(
                f"/credentials/{consent.credential_id}",
                consent.text,
                "good" if consent.given else "bad",
            )
        return JSONResponse({"consented": consent.given, "detail": consent.text})
    begun_for = authorisation.connection_of(ctx, query)
    try:
        connection, done = await beside(
            request, lambda: authorisation.finish(ctx, query, session=by)
        )
    except PosthouseError as error:
        if in_browser:
            page = "/connections" if begun_for is None else f"/connections/{begun_for}"
            return go(page, f"{error} {error.hint}".strip(), "bad")
        return problem_of(error)
    if in_browser:
        text = f"{connection.name} is authorised as {done.account}."
        if done.grant_ends_at is not None:
            text += " The provider ends that in a few days: see below."
        return go(f"/connections/{connection.id}", text, "warn" if done.grant_ends_at else "good")
    return JSONResponse(AuthorisationOut.model_validate(done).model_dump(mode="json"))


def _session(request: Request) -> str:
    """Names who asks: the browser's session, or the token."""
    signed_in = session_of(request)
    if signed_in is not None:
        return f"session {signed_in.digest.hex()}"
    return f"token {principal_of(request).name}"
