"""Who makes a request: asked in front of pages and API, for every path but a few public ones.

What somebody may do is declared at each route (`auth.route_permissions`). Bearer tokens are
looked at under `/api/` only; people come in with a cookie. A change that rests on a cookie must
carry the session's CSRF token: calls in a header, checked here; forms in a field, checked by
`services.admin.pages` before any of its routes.
"""

from __future__ import annotations

import hmac
import re
from collections.abc import Callable
from typing import Final
from urllib.parse import quote, urlsplit

from anyio import to_thread
from starlette.requests import HTTPConnection, Request
from starlette.responses import PlainTextResponse, RedirectResponse, Response
from starlette.types import ASGIApp, Receive, Scope, Send

from services.admin.auth import cookies
from services.admin.auth.request_principals import RequestPrincipals
from services.admin.auth.token_guesses import TooManyAttempts
from services.admin.problems import problem, problem_of
from shared.errors import TryAgain
from shared.forwarding import signed_links
from shared.people import Principal, SignedIn

#: Asked for by a script of ours that refreshes a part of a page: nobody did anything.
PART_HEADER: Final = "x-part"
CSRF_HEADER: Final = "x-csrf-token"
SAFE_METHODS: Final = frozenset({"GET", "HEAD", "OPTIONS"})

_LOOPBACK: Final = frozenset({"127.0.0.1", "::1", "localhost"})
#: Nobody is asked who he is here. What else there is needs a proof of identity, known or not.
#: Where a provider sends the browser back to, and the `state` of an administrator's consent.
_CALLBACK: Final = "/api/v1/oauth/callback"
_CONSENT: Final = re.compile(r"^admin-consent-[0-9]{1,18}$")
#: The pages of a link that authorises a mailbox, with its token.
_LINK: Final = re.compile(r"^/authorise/([^/]+)(?:/.*)?$")
_PUBLIC: Final = re.compile(r"^/(favicon\.ico|static/.*|documents(/.*)?|login(/.*)?|authorise)$")


def session_of(request: HTTPConnection) -> SignedIn | None:
    """The browser session; None for a program's bearer token and on public paths."""
    signed_in: SignedIn | None = getattr(request.state, "signed_in", None)
    return signed_in


def address_of(request: HTTPConnection) -> str:
    """Where a request comes from: the peer, or what a trusted proxy says (TRUSTED_PROXIES)."""
    return request.client.host if request.client else ""


class Authentication:
    """ASGI middleware in front of pages and API.

    Sets `request.state.principal` (Principal) and `request.state.signed_in` (SignedIn or None).
    `refusal(request, status, message, hint)` renders the page that people see.
    """

    def __init__(
        self,
        app: ASGIApp,
        principals: RequestPrincipals,
        public_url: str,
        refusal: Callable[[Request, int, str, str], Response],
    ) -> None:
        self._app = app
        self._principals = principals
        self._refusal = refusal
        public = urlsplit(public_url)
        self._https = public.scheme == "https"
        self._hosts = {str(public.hostname), *_LOOPBACK}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        request = Request(scope, receive)
        request.state.https = self._https
        refused = self._wrong_host(request) or await self._check(request)
        await (refused or self._app)(scope, receive, send)

    def _wrong_host(self, request: Request) -> Response | None:
        """Pages answer under their own name only: a name that somebody else made point here (DNS
        rebinding) would be another site to the browser. Machines come with a token instead."""
        path = request.url.path
        if path.startswith("/api/") or request.url.hostname in self._hosts:
            return None
        return PlainTextResponse(
            f"Posthouse is not known as {request.url.hostname}.\n"
            "Set POSTHOUSE_PUBLIC_URL to the address that people use.\n",
            status_code=421,
        )

    async def _check(self, request: Request) -> Response | None:
        method, path = request.method, request.url.path
        if _PUBLIC.match(path):
            return None
        try:
            principal, signed_in = await to_thread.run_sync(self._identify, request)
        except TooManyAttempts as error:
            if not path.startswith("/api/"):
                return self._refusal(request, 429, str(error), error.hint)
            return problem_of(error)
        except TryAgain as error:
            return self._refuse(request, 503, str(error), "Try again in a moment.")
        if principal is None:
            return self._unknown(request)
        request.state.principal = principal
        request.state.principals = self._principals
        request.state.signed_in = signed_in
        # Pages carry the token in a form field: their router reads the body and checks it.
        if signed_in is not None and method not in SAFE_METHODS and path.startswith("/api/"):
            given = request.headers.get(CSRF_HEADER, "")
            if not hmac.compare_digest(given.encode(), signed_in.csrf.encode()):
                return self._refuse(
                    request,
                    403,
                    "The CSRF token is missing or not this session's.",
                    f"Send it as {CSRF_HEADER}, or use a bearer token.",
                )
        return None

    def _identify(self, request: Request) -> tuple[Principal | None, SignedIn | None]:
        scheme, _, token = request.headers.get("authorization", "").partition(" ")
        if scheme and request.url.path.startswith("/api/"):
            if scheme.lower() != "bearer":
                return None, None
            return self._principals.by_bearer(token.strip(), address_of(request)), None
        link = _LINK.match(request.url.path)
        if link is not None:
            return self._principals.by_authorisation_link(link[1], address_of(request)), None
        if request.url.path == _CALLBACK and request.method == "GET":
            visitor = self._principals.by_provider_login(request.query_params.get("state", ""))
            if visitor is not None:
                return visitor, None
        claim = signed_links.read(request.url.path, request.url.query)
        if claim is not None and request.method in SAFE_METHODS:
            return self._principals.by_signed_address(claim), None
        cookie = cookies.read(request, cookies.SESSION)
        used = PART_HEADER not in request.headers
        signed_in = self._principals.by_cookie(cookie, used=used) if cookie else None
        return (signed_in.principal if signed_in else None), signed_in

    def _unknown(self, request: Request) -> Response:
        path = request.url.path
        if path == _CALLBACK and _CONSENT.match(request.query_params.get("state", "")):
            # Who administers the tenant need not be known here, and came by our link.
            given = request.query_params.get("admin_consent", "").lower() == "true"
            word = "given" if given and "error" not in request.query_params else "refused"
            return RedirectResponse(f"/login/consent/{word}", status_code=303)
        if _LINK.match(path):
            return self._refusal(
                request,
                404,
                "This link is not known here.",
                "Open it exactly as it was sent to you, or ask for a new one.",
            )
        if path.startswith("/api/"):
            refused = self._refuse(
                request,
                401,
                "A valid token is needed.",
                "Send 'Authorization: Bearer …' with a token made on the page API tokens, or with "
                "that of a handler.",
            )
            refused.headers["www-authenticate"] = "Bearer"
            return refused
        target = path + (f"?{request.url.query}" if request.url.query else "")
        follow = f"?next={quote(target)}" if request.method == "GET" and target != "/" else ""
        return RedirectResponse(f"/login{follow}", status_code=303)

    def _refuse(self, request: Request, status: int, message: str, hint: str) -> Response:
        if not request.url.path.startswith("/api/"):
            return self._refusal(request, status, message, hint)
        codes = {401: "token-needed", 403: "not-allowed", 503: "database-unavailable"}
        return problem(status, codes[status], message, hint=hint)
