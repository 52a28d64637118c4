"""What each path needs: decided in one table, closed by default."""

from __future__ import annotations

import pytest

from services.admin.people.gate import needed
from shared.people import Permission, Principal, Role


@pytest.mark.parametrize(
    ("method", "path", "permission"),
    [
        ("GET", "/login", None),
        ("GET", "/static/posthouse.css", None),
        ("GET", "/healthz", None),
        ("GET", "/", Permission.LOOK),
        ("GET", "/connections/7", Permission.LOOK),
        ("POST", "/connections/7/enable", Permission.OPERATE),
        ("POST", "/a/page/of/tomorrow", Permission.OPERATE),
        ("POST", "/logout", Permission.LOOK),
        ("GET", "/mails/018f/raw", Permission.READ_MAIL),
        ("GET", "/mails/018f/content", Permission.READ_MAIL),
        ("GET", "/api/v1/messages/018f/raw", Permission.READ_MAIL),
        ("GET", "/quarantine/018f/raw", Permission.READ_MAIL),
        ("GET", "/credentials", Permission.LOOK),
        ("POST", "/credentials/new", Permission.ADMINISTER),
        ("PATCH", "/api/v1/credentials/1", Permission.ADMINISTER),
        ("GET", "/people", Permission.ADMINISTER),
        ("GET", "/audit", Permission.ADMINISTER),
        ("POST", "/settings/webhooks", Permission.ADMINISTER),
        ("GET", "/login-as-somebody", Permission.LOOK),
    ],
)
def test_what_a_request_needs(method: str, path: str, permission: Permission | None) -> None:
    assert needed(method, path) is permission


def test_roles_grow_and_a_handler_has_none() -> None:
    viewer, operator, admin = (
        {p for p in Permission if Principal(name="x", role=role).may(p)}
        for role in (Role.VIEWER, Role.OPERATOR, Role.ADMIN)
    )
    assert viewer < operator < admin
    assert not any(Principal(name="x", role=None, handler_id=1).may(p) for p in Permission)
