"""`/api/v1/connections/{id}/authorize`, `/revoke` and `/api/v1/oauth/callback`."""

from __future__ import annotations

from urllib.parse import quote

from fastapi import APIRouter, Request
from starlette.responses import JSONResponse, Response

from services.admin.api.route_parameters import Ctx, IdInPath
from services.admin.api.schemas.connections import (
    AuthorisationLinkOut,
    AuthorisationOut,
    AuthorizeOut,
    LinkIn,
    MadeLinkOut,
    RevokedOut,
)
from services.admin.api.schemas.derived import values_of
from services.admin.auth import cookies
from services.admin.auth.authentication import session_of
from services.admin.auth.route_permissions import (
    OPERATE_ON_PART,
    OPERATE_ON_PART_OR_LINK,
    principal_of,
)
from services.admin.context import Context
from services.admin.mail_server_work import run_in_mail_threads
from services.admin.operations import authorisation, authorisation_links, consents
from services.admin.operations.authorisation_links import LinkClosed
from services.admin.problems import problem_of, responses
from services.admin.redirects_with_notice import redirect
from shared.errors import InvalidInput, PosthouseError, TryAgain
from shared.mailbox.oauth.provider import WrongAccount
from shared.mailbox_logins import Others

router = APIRouter(tags=["authorisation"])


@router.post(
    "/connections/{connection_id}/authorize",
    dependencies=[OPERATE_ON_PART],
    responses=responses(404, 502),
)
async def authorize(request: Request, ctx: Ctx, connection_id: IdInPath) -> AuthorizeOut:
    """Begins a login at the provider. The browser (or token) that began it has to finish it."""
    by = _session(request)
    address = await run_in_mail_threads(
        request, lambda: authorisation.start(ctx, connection_id, session=by)
    )
    return AuthorizeOut(authorization_url=address)


@router.post(
    "/connections/{connection_id}/revoke",
    dependencies=[OPERATE_ON_PART],
    responses=responses(404, 409),
)
async def revoke(
    request: Request, ctx: Ctx, connection_id: IdInPath, others: Others = Others.ASK
) -> RevokedOut:
    """Forgets the tokens and revokes the grant at the provider.

    Some providers end with it the whole grant of that person and application. Where other
    connections use it, this is refused (`grant-shared`) until `others` says what becomes of
    them: `end` ends them too, `keep` only forgets the tokens here.
    """
    confirmed = await run_in_mail_threads(
        request, lambda: authorisation.revoke(ctx, connection_id, others)
    )
    return RevokedOut(confirmed=confirmed)


@router.get(
    "/connections/{connection_id}/authorisation-links",
    dependencies=[OPERATE_ON_PART],
    responses=responses(404),
)
def links(ctx: Ctx, connection_id: IdInPath) -> list[AuthorisationLinkOut]:
    """The links that were made for the owner of the mailbox, newest first."""
    found = authorisation_links.links_of(ctx, connection_id)
    return [AuthorisationLinkOut.model_validate(one) for one in found]


@router.post(
    "/connections/{connection_id}/authorisation-links",
    status_code=201,
    dependencies=[OPERATE_ON_PART],
    responses=responses(404),
)
def make_link(ctx: Ctx, connection_id: IdInPath, body: LinkIn) -> MadeLinkOut:
    """Makes a link to send to the owner of the mailbox, who needs no account here.

    It is good for one login with the account of the connection."""
    made = authorisation_links.make(ctx, connection_id, body.days)
    return MadeLinkOut(**values_of(made.link), url=made.url)


@router.delete(
    "/connections/{connection_id}/authorisation-links/{link_id}",
    dependencies=[OPERATE_ON_PART],
    responses=responses(404),
)
def revoke_link(ctx: Ctx, connection_id: IdInPath, link_id: IdInPath) -> AuthorisationLinkOut:
    """Revokes a link. One that is closed already stays what it is."""
    revoked = authorisation_links.revoke(ctx, connection_id, link_id)
    return AuthorisationLinkOut.model_validate(revoked)


@router.get(
    "/oauth/callback",
    dependencies=[OPERATE_ON_PART_OR_LINK],
    response_model=AuthorisationOut,
    responses={**responses(502), 303: {"description": "Back to the page of the connection"}},
)
async def callback(request: Request, ctx: Ctx) -> Response:
    """Where providers send the browser back to, with `code` and `state` or an `error`; after an
    administrator of a tenant was asked for consent, with what became of it."""
    query = dict(request.query_params)
    if principal_of(request).link_id is not None:
        return await _finish_by_link(request, ctx, query)
    by = _session(request)
    in_browser = session_of(request) is not None
    consent = consents.landed(query)
    if consent is not None:
        if in_browser:
            return redirect(
                f"/credentials/{consent.credential_id}",
                consent.text,
                "good" if consent.given else "bad",
            )
        return JSONResponse({"consented": consent.given, "detail": consent.text})
    begun_for = authorisation.connection_of(ctx, query)
    try:
        connection, done = await run_in_mail_threads(
            request, lambda: authorisation.finish(ctx, query, session=by)
        )
    except PosthouseError as error:
        if in_browser:
            page = "/connections" if begun_for is None else f"/connections/{begun_for}"
            return redirect(page, f"{error} {error.hint}".strip(), "bad")
        return problem_of(error)
    if in_browser:
        text = f"{connection.name} is authorised as {done.account}."
        if done.grant_ends_at is not None:
            text += " The provider ends that in a few days: see below."
        return redirect(
            f"/connections/{connection.id}", text, "warn" if done.grant_ends_at else "good"
        )
    return JSONResponse(AuthorisationOut.model_validate(done).model_dump(mode="json"))


async def _finish_by_link(request: Request, ctx: Context, query: dict[str, str]) -> Response:
    """Back to the page of the link, which says what became of it."""
    browser = cookies.read(request, cookies.LINK)
    token = browser.partition(".")[0]
    if not token:
        text = "This login was begun in another browser, or too long ago."
        return redirect("/authorise", text, "bad")
    try:
        await run_in_mail_threads(
            request, lambda: authorisation_links.finish(ctx, query, browser=browser)
        )
    except PosthouseError as error:
        answer = redirect(f"/authorise/{quote(token, safe='')}", _for_owner(error), "bad")
    else:
        answer = redirect(f"/authorise/{quote(token, safe='')}")
    cookies.delete(request, answer, cookies.LINK)
    return answer


def _for_owner(error: PosthouseError) -> str:
    """What somebody is told who neither knows Posthouse nor can change how it is set up."""
    match error:
        case LinkClosed():
            return ""  # the page itself says why
        case WrongAccount():
            return f"{error} Nothing was changed: log out at the provider, then try again."
        case InvalidInput():
            return "This login took too long, or was finished already. Try again."
        case TryAgain():
            return "The provider did not answer. Try again in a few minutes."
        case _ if error.code == "consent-denied":
            return "You did not allow it, so nothing was changed. You can try again."
    return (
        f"The provider refused the login ({error.code}). Nothing was changed: tell the person who "
        "sent you the link."
    )


def _session(request: Request) -> str:
    """Names who asks: the browser's session, or the token."""
    signed_in = session_of(request)
    if signed_in is not None:
        return f"session {signed_in.digest.hex()}"
    return f"token {principal_of(request).name}"
