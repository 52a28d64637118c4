"""Calls webhooks: signed, at allowed addresses only, without following where they point."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final

import httpx

from shared.alert_payloads import compose
from shared.alerts.raised import Alert
from shared.allowed_hosts import HostRules
from shared.errors import InvalidInput, PosthouseError, SecretKeyMissing
from shared.mailbox.failures import Refused
from shared.mailbox.net import https
from shared.storage.alert_deliveries import AlertedWebhook
from shared.storage.webhooks import WEBHOOK_TABLE
from shared.vault import SecretPath, Vault

#: Seconds that a receiver may take to accept a connection, and to answer.
_CONNECT_S: Final = 5.0
_READ_S: Final = 10.0
_WHERE: Final = "POSTHOUSE_ALLOWED_HOSTS and POSTHOUSE_DENIED_HOSTS say where it may."


@dataclass(frozen=True, slots=True)
class Call:
    """One call as it went: HTTP's status (None: no answer), or why it failed."""

    alert: Alert
    target: AlertedWebhook
    status: int | None
    error: str | None
    retry_after: timedelta | None = None
    #: Not called: its address is sealed with a key that others have.
    left: bool = False

    @property
    def is_taken(self) -> bool:
        return self.error is None


class WebhookCaller:
    """Calls receivers; one `deliver` a receiver, its alerts in the order they were raised."""

    def __init__(
        self,
        vault: Vault,
        now: datetime,
        public_url: str,
        hosts: HostRules | None,
    ) -> None:
        self._vault = vault
        self._now = now
        self._public_url = public_url
        self._hosts = hosts

    def deliver(self, work: Sequence[tuple[Alert, AlertedWebhook]]) -> list[Call]:
        """Stops at the first call that gets no answer: the receiver is down, the rest waits."""
        calls = []
        # A redirect is an error: it could lead where the rules would not.
        reach = self._hosts.at if self._hosts is not None else None
        with https.client(connect=_CONNECT_S, read=_READ_S, reach=reach) as client:
            for alert, target in work:
                calls.append(self._call(client, alert, target))
                if calls[-1].status is None:
                    break
        return calls

    def _call(self, client: httpx.Client, alert: Alert, target: AlertedWebhook) -> Call:
        try:
            request = compose(
                alert,
                target.template,
                url=self._opened("url", target, target.url),
                secret=self._opened("secret", target, target.secret),
                public_url=self._public_url,
                now=self._now,
            )
            _refuse_other_schemes(request.url)
            answer = client.post(request.url, headers=dict(request.headers), content=request.body)
        except Refused as error:
            # Also what is said of an address that is not allowed.
            return Call(
                alert, target, None, f"{error} {_WHERE if 'forbidden' in error.code else ''}"
            )
        except SecretKeyMissing as error:
            return Call(alert, target, None, str(error), left=True)
        except PosthouseError as error:
            return Call(alert, target, None, str(error))
        except (httpx.HTTPError, httpx.InvalidURL) as error:
            # The text of httpx's errors may hold the address, which is a secret.
            return Call(alert, target, None, f"No answer: {type(error).__name__}.")
        if answer.is_success:
            return Call(alert, target, answer.status_code, None)
        reason = f"The receiver answered {answer.status_code} {answer.reason_phrase}."
        return Call(alert, target, answer.status_code, reason, _retry_after(answer))

    def _opened(self, column: str, target: AlertedWebhook, sealed: bytes | None) -> str:
        if sealed is None:
            return ""
        path = SecretPath(WEBHOOK_TABLE, column, str(target.id))
        return self._vault.open(sealed, path).decode()


def _refuse_other_schemes(url: str) -> None:
    parts = httpx.URL(url)
    if parts.scheme not in {"https", "http"} or not parts.host:
        raise InvalidInput("The webhook's address is not an http(s) address.", field="url")


def _retry_after(answer: httpx.Response) -> timedelta | None:
    """At most a day."""
    seconds = https.retry_after(answer.headers)
    return None if seconds is None else timedelta(seconds=min(seconds, 86_400.0))
