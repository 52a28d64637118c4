"""Admin consent: the link with which an administrator of a tenant lets our application in.

Source: "Admin consent on the Microsoft identity platform"
(learn.microsoft.com/entra/identity-platform/v2-admin-consent): GET
https://{login}/{tenant}/v2.0/adminconsent with client_id, scope, redirect_uri and state; the
browser comes back with `admin_consent=True` and `tenant`, or with `error`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final
from urllib.parse import urlencode, urlsplit

from shared.credentials import Credential, Provider
from shared.microsoft_clouds import cloud_named

_STATE: Final = "admin-consent-"


@dataclass(frozen=True, slots=True)
class Landed:
    """What an administrator decided, as the page says it."""

    credential_id: int
    given: bool
    text: str


def link(credential: Credential, redirect_uri: str) -> str:
    """Where an administrator of the credential's tenant consents to everything that is registered
    for the application; empty where there is no such link (Google, authorities of one's own, an
    application whose tenant nobody named)."""
    if credential.provider is not Provider.MICROSOFT or credential.setting("authority"):
        return ""
    if not (credential.client_id and credential.id):
        return ""
    cloud = cloud_named(credential.cloud)
    query = {
        "client_id": credential.client_id,
        "scope": f"https://{cloud.graph}/.default",
        "redirect_uri": redirect_uri,
        "state": f"{_STATE}{credential.id}",
    }
    tenant = credential.tenant or "organizations"
    return f"https://{cloud.login}/{tenant}/v2.0/adminconsent?{urlencode(query)}"


def landed(query: Mapping[str, str]) -> Landed | None:
    """What came back from such a link; None for the answer of a login.

    Nothing is believed of it but what to say: whether the consent holds shows a test.
    """
    state = query.get("state", "")
    number = state.removeprefix(_STATE)
    if not state.startswith(_STATE) or not (number.isascii() and number.isdecimal()):
        return None
    if query.get("admin_consent", "").lower() == "true" and "error" not in query:
        where = f" in the tenant {query['tenant'][:100]}" if query.get("tenant") else ""
        return Landed(
            int(number[:18]), True, f"An administrator consented{where}. Test a connection now."
        )
    why = query.get("error_description") or query.get("error") or "no consent"
    return Landed(int(number[:18]), False, f"The consent was not given: {why[:300]}")


def redirect_problem(provider: Provider, redirect_uri: str, own_authority: bool) -> str:
    """Why the provider will not take our redirect address; empty where it will.

    Entra and Google take https, and http for the name localhost only ("Redirect URI restrictions
    and limitations").
    """
    parts = urlsplit(redirect_uri)
    if own_authority or parts.scheme == "https" or parts.hostname == "localhost":
        return ""
    port = f":{parts.port}" if parts.port else ""
    name = "Entra" if provider is Provider.MICROSOFT else "Google"
    return (
        f"{name} takes redirect addresses with https, or with http for the name localhost. Set "
        f"POSTHOUSE_PUBLIC_URL to one of these (http://localhost{port} on your own machine), and "
        "open these pages by it."
    )
