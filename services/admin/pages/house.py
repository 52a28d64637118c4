"""What the pages stand on, taken from the application they run in."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from starlette.requests import Request

from services.admin.people.access import Access
from services.admin.people.oidc import Oidc
from services.admin.settings import AdminSettings
from shared.storage.pool import Database


@dataclass(frozen=True, slots=True)
class PagesHouse:
    settings: AdminSettings
    database: Database
    access: Access
    oidc: Oidc | None
    operations: Any


def _house(request: Request) -> PagesHouse:
    house: PagesHouse = request.app.state.pages_house
    return house


def access_of(request: Request) -> Access:
    return _house(request).access


def database_of(request: Request) -> Database:
    return _house(request).database


def oidc_of(request: Request) -> Oidc | None:
    return _house(request).oidc


def settings_of(request: Request) -> AdminSettings:
    return _house(request).settings
