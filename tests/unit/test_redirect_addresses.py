"""Redirect addresses that a provider takes, before anybody enters one there in vain."""

from __future__ import annotations

import pytest

from services.admin.operations.consents import redirect_problem
from shared.credentials import Provider

PATH = "/api/v1/oauth/callback"


@pytest.mark.promise("A1")
@pytest.mark.parametrize("provider", list(Provider))
@pytest.mark.parametrize("origin", ["https://post.example.org", "http://localhost:8025"])
def test_https_and_localhost_are_taken(provider: Provider, origin: str) -> None:
    assert redirect_problem(provider, origin + PATH, own_authority=False) == ""


@pytest.mark.promise("A1")
@pytest.mark.parametrize("origin", ["http://post.example.org", "http://10.0.0.5:8025"])
def test_plain_http_elsewhere_is_told(origin: str) -> None:
    told = redirect_problem(Provider.MICROSOFT, origin + PATH, own_authority=False)
    assert "https" in told


@pytest.mark.promise("A1")
def test_entra_takes_localhost_by_name_only() -> None:
    told = redirect_problem(Provider.MICROSOFT, "http://127.0.0.1:8025" + PATH, own_authority=False)
    assert "localhost" in told


@pytest.mark.promise("A1")
def test_an_authority_of_ones_own_has_its_own_rules() -> None:
    assert (
        redirect_problem(Provider.MICROSOFT, "http://post.example" + PATH, own_authority=True) == ""
    )
