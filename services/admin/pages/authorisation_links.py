"""Links with which the owner of a mailbox authorises it: making them, and the page behind one."""

from __future__ import annotations

import secrets
from urllib.parse import urlsplit

from fastapi import APIRouter, Request
from starlette.responses import Response

from services.admin.auth import cookies
from services.admin.auth.authentication import address_of
from services.admin.auth.route_permissions import BY_LINK, OPERATE_ON_PART, PUBLIC
from services.admin.auth.token_guesses import TooManyAttempts
from services.admin.operations import authorisation_links, connection_views
from services.admin.operations.authorisation_links import LinkClosed, LinkState, MadeLink, Offer
from services.admin.pages.forms import Form, whole_number
from services.admin.pages.rendering import redirect, render
from services.admin.pages.request_context import context_of
from shared.errors import InvalidInput, NotFound, PosthouseError

router = APIRouter()
#: As long as a login at a provider may take (`shared.storage.authorisations`).
_LOGIN_SECONDS = 900
_FORM_SECONDS = 86_400


@router.get("/connections/{connection_id:int}/links", dependencies=[OPERATE_ON_PART])
def links(request: Request, connection_id: int) -> Response:
    return _links(request, connection_id)


@router.post("/connections/{connection_id:int}/links", dependencies=[OPERATE_ON_PART])
def make(request: Request, connection_id: int, form: Form) -> Response:
    days = whole_number(form.text("days")) or 0
    try:
        made = authorisation_links.make(context_of(request), connection_id, days)
    except InvalidInput as error:
        return _links(request, connection_id, error=error)
    return _links(request, connection_id, made)


@router.post(
    "/connections/{connection_id:int}/links/{link_id:int}/revoke", dependencies=[OPERATE_ON_PART]
)
def revoke(request: Request, connection_id: int, link_id: int) -> Response:
    authorisation_links.revoke(context_of(request), connection_id, link_id)
    return redirect(f"/connections/{connection_id}/links", "The link opens nothing any more.")


@router.get("/authorise", dependencies=[PUBLIC])
def elsewhere(request: Request) -> Response:
    """Where somebody lands who came back from a login in another browser than it began in."""
    return _private(render(request, "authorisation_links/elsewhere.html"))


@router.get("/authorise/{token}", dependencies=[BY_LINK])
def offer(request: Request, token: str) -> Response:
    """Whose Posthouse asks for what. Looking at it changes nothing: programs open links, too."""
    return _offer(request, token)


@router.post("/authorise/{token}", dependencies=[BY_LINK])
def start_login(request: Request, token: str) -> Response:
    """Leads to the provider's login, by a page: a form may not lead to another site (the content
    security policy)."""
    browser = f"{token}.{secrets.token_urlsafe(32)}"
    try:
        address = authorisation_links.start(
            context_of(request), browser=browser, address=address_of(request)
        )
    except LinkClosed:
        return _offer(request, token)
    except TooManyAttempts as error:
        return _offer(request, token, f"{error} {error.hint}", 429)
    except NotFound:
        raise
    except PosthouseError as error:
        said = "The login could not be begun"
        text = f"{said} ({error.code}). Tell the person who sent you the link."
        return _offer(request, token, text, 503)
    host = urlsplit(address).hostname
    response = render(request, "authorisation_links/leaving.html", address=address, host=host)
    cookies.write(request, response, cookies.LINK, browser, _LOGIN_SECONDS)
    return _private(response)


def _links(
    request: Request,
    connection_id: int,
    made: MadeLink | None = None,
    error: PosthouseError | None = None,
) -> Response:
    ctx = context_of(request)
    return render(
        request,
        "connections/links.html",
        422 if error else 200,
        view=connection_views.get_connection(ctx, connection_id),
        links=authorisation_links.links_of(ctx, connection_id),
        made=made,
        error=error,
        most=authorisation_links.MOST_DAYS,
        usual=authorisation_links.VALID_DAYS,
    )


def _offer(request: Request, token: str, text: str = "", status: int = 200) -> Response:
    try:
        found: Offer | None = authorisation_links.offer(context_of(request))
    except InvalidInput:  # the connection has a password by now
        found = None
    open_ = found is not None and found.link.state is LinkState.OPEN
    csrf = cookies.read(request, cookies.LOGIN) or secrets.token_urlsafe(32)
    response = render(
        request,
        "authorisation_links/offer.html",
        status,
        offer=found,
        is_open=open_,
        token=token,
        text=text,
        login_csrf=csrf,
    )
    cookies.write(request, response, cookies.LOGIN, csrf, _FORM_SECONDS)
    return _private(response)


def _private(response: Response) -> Response:
    """No other site is told the address, and no search engine keeps it."""
    response.headers["referrer-policy"] = "no-referrer"
    response.headers["x-robots-tag"] = "noindex"
    return response
