"""Alerts about what is about to expire: certificates and client secrets."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final

from shared.alerts.base import AlertData, Severity

#: Days before the end of a certificate or client secret at which people are told, once each.
EXPIRY_DAYS: Final = (30, 7, 1)


@dataclass(frozen=True, kw_only=True)
class _Expiring(AlertData):
    """`days`: the stage of EXPIRY_DAYS that was reached; `ends_at`: ISO 8601.

    Raised once for each stage, and anew for a later end.
    """

    level = Severity.WARNING
    episode = "{0.subject}:expiring:{0.ends_at}:{0.days}"

    days: int
    ends_at: str

    @property
    def severity(self) -> Severity:
        return Severity.CRITICAL if self.days == 1 else self.level

    @property
    def _within(self) -> str:
        within = "within a day" if self.days == 1 else f"within {self.days} days"
        return f"{within}, on {self.ends_at[:10]}"


@dataclass(frozen=True, kw_only=True)
class CertificateExpiring(_Expiring):
    kind = "certificate-expiring"
    choice = "A certificate is about to expire"
    about = "certificate/{0.certificate_id}"
    path = "/certificates/{0.certificate_id}"
    text = "Certificate “{0.name}” expires {0._within}."

    certificate_id: int


@dataclass(frozen=True, kw_only=True)
class ClientSecretExpiring(_Expiring):
    kind = "client-secret-expiring"
    choice = "A client secret is about to expire"
    about = "credential/{0.credential_id}"
    path = "/credentials/{0.credential_id}"
    text = "The client secret of “{0.name}” expires {0._within}."

    credential_id: int


def expiry_stage(ends_at: datetime, now: datetime) -> int | None:
    """Which of EXPIRY_DAYS has been reached (the narrowest), None before the first or after all."""
    left = ends_at - now
    if left < timedelta(0):
        return None
    reached = [days for days in EXPIRY_DAYS if left <= timedelta(days=days)]
    return min(reached) if reached else None
