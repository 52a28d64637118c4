"""What a route needs is declared at the route; one that declares nothing is not served."""

from __future__ import annotations

import pytest
from fastapi import FastAPI

from services.admin.auth.route_permissions import ADMINISTER, VIEW, declared
from shared.people import Permission, Principal, Role


def nothing() -> None: ...


def test_a_route_that_declares_nothing_is_refused_when_the_application_is_built() -> None:
    app = FastAPI()
    app.add_api_route("/new", nothing, methods=["GET"])
    with pytest.raises(RuntimeError, match="/new declares 0 permissions"):
        declared(app)


def test_a_route_that_declares_two_things_is_refused_too() -> None:
    app = FastAPI()
    app.add_api_route("/new", nothing, methods=["POST"], dependencies=[VIEW, ADMINISTER])
    with pytest.raises(RuntimeError, match="2 permissions"):
        declared(app)


def test_roles_grow_and_a_handler_has_none() -> None:
    viewer, operator, admin = (
        {p for p in Permission if Principal(name="x", role=role).may(p)}
        for role in (Role.VIEWER, Role.OPERATOR, Role.ADMIN)
    )
    assert viewer < operator < admin
    assert not any(Principal(name="x", role=None, handler_id=1).may(p) for p in Permission)
