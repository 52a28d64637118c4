"""What the route of a page gets from its request: who asks, logins, settings."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from starlette.requests import Request

from services.admin.auth.browser_logins import BrowserLogins
from services.admin.auth.route_permissions import principal_of
from services.admin.context import AppState, Context
from services.admin.pages.forms import PostedForm
from services.admin.settings import AdminSettings

if TYPE_CHECKING:
    from services.admin.auth.oidc import Oidc


@dataclass(frozen=True, slots=True)
class PagesState:
    """The state of the service for the operations, and how people log in."""

    app_state: AppState
    logins: BrowserLogins
    oidc: Oidc | None


def _pages_state(request: Request) -> PagesState:
    state: PagesState = request.app.state.pages_state
    return state


def context_of(request: Request) -> Context:
    """The operations' context of this request."""
    return Context(_pages_state(request).app_state, principal_of(request))


def editing_context_of(request: Request, form: PostedForm) -> Context:
    """The context of a change: the form says of which version it was made."""
    return replace(context_of(request), expected=form.text("version"))


def logins_of(request: Request) -> BrowserLogins:
    return _pages_state(request).logins


def oidc_of(request: Request) -> Oidc | None:
    return _pages_state(request).oidc


def settings_of(request: Request) -> AdminSettings:
    return _pages_state(request).app_state.settings


def is_part(request: Request) -> bool:
    """Whether one of our scripts asks for the changing part of a page only."""
    return request.headers.get("x-part") == "yes"
