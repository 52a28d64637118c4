"""What the pages stand on, taken from the application they run in."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from starlette.requests import Request

from services.admin.context import Context, House
from services.admin.people.access import Access
from services.admin.people.authorization import principal_of
from services.admin.settings import AdminSettings

if TYPE_CHECKING:
    from services.admin.people.oidc import Oidc


@dataclass(frozen=True, slots=True)
class PagesHouse:
    """The house that the operations work in, and how people come in."""

    house: House
    access: Access
    oidc: Oidc | None


def _pages_house(request: Request) -> PagesHouse:
    house: PagesHouse = request.app.state.pages_house
    return house


def context_of(request: Request) -> Context:
    """For operations on behalf of whoever makes this request."""
    return Context(_pages_house(request).house, principal_of(request))


def access_of(request: Request) -> Access:
    return _pages_house(request).access


def oidc_of(request: Request) -> Oidc | None:
    return _pages_house(request).oidc


def settings_of(request: Request) -> AdminSettings:
    return _pages_house(request).house.settings


def is_part(request: Request) -> bool:
    """Whether one of our scripts asks for the changing part of a page only."""
    return request.headers.get("x-part") == "yes"
