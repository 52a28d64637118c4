"""Calls webhooks: signed, at allowed addresses only, without following where they point."""

from __future__ import annotations

import contextlib
import ipaddress
import socket
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final

import httpx

from shared.alert_requests import compose
from shared.alerts import Alert
from shared.clock import utc_now
from shared.errors import InvalidInput, PosthouseError, TryAgain
from shared.hosts import HostRules
from shared.storage.alerts import WEBHOOK_TABLE, Target
from shared.vault import Place, Vault

#: Seconds that a receiver may take to accept a connection, and to answer.
_TIMEOUT: Final = httpx.Timeout(10.0, connect=5.0)


@dataclass(frozen=True, slots=True)
class Call:
    """One call as it went: HTTP's status (None: no answer), or why it failed."""

    alert: Alert
    target: Target
    status: int | None
    error: str | None
    retry_after: timedelta | None = None

    @property
    def is_taken(self) -> bool:
        return self.error is None


class Caller:
    """Calls receivers; one `tell` a receiver, its alerts in the order they were raised."""

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

    def tell(self, work: Sequence[tuple[Alert, Target]]) -> list[Call]:
        """Stops at the first call that gets no answer: the receiver is down, the rest waits."""
        calls = []
        # A redirect is an error: it could lead where the rules would not.
        with httpx.Client(timeout=_TIMEOUT, follow_redirects=False, trust_env=False) as client:
            for alert, target in work:
                calls.append(self._call(client, alert, target))
                if calls[-1].status is None:
                    break
        return calls

    def _call(self, client: httpx.Client, alert: Alert, target: Target) -> Call:
        try:
            request = compose(
                alert,
                target.template,
                url=self._opened("url", target, target.url),
                secret=self._opened("secret", target, target.secret),
                public_url=self._public_url,
                now=self._now,
            )
            url, name = self._pinned(request.url)
            answer = client.post(
                url,
                headers={**request.headers, "host": name},
                content=request.body,
                # The certificate must be the name's, though the address is called.
                extensions={"sni_hostname": httpx.URL(request.url).host},
            )
        except PosthouseError as error:
            return Call(alert, target, None, str(error))
        except (httpx.HTTPError, httpx.InvalidURL) as error:
            # The text of httpx's errors may hold the address, which is a secret.
            return Call(alert, target, None, f"No answer: {type(error).__name__}.")
        if answer.is_success:
            return Call(alert, target, answer.status_code, None)
        reason = f"The receiver answered {answer.status_code} {answer.reason_phrase}."
        return Call(alert, target, answer.status_code, reason, _retry_after(answer))

    def _opened(self, column: str, target: Target, sealed: bytes | None) -> str:
        if sealed is None:
            return ""
        place = Place(WEBHOOK_TABLE, column, str(target.id))
        return self._vault.open(sealed, place).decode()

    def _pinned(self, url: str) -> tuple[httpx.URL, str]:
        """The address to call, resolved once and allowed, and what to call it in `Host`.

        Resolved here, so that a name cannot point elsewhere after it was looked at. Raises
        InvalidInput.
        """
        parts = httpx.URL(url)
        if parts.scheme not in {"https", "http"} or not parts.host:
            raise InvalidInput("The webhook's address is not an http(s) address.", field="url")
        port = parts.port or (443 if parts.scheme == "https" else 80)
        try:
            found = socket.getaddrinfo(parts.host, port, type=socket.SOCK_STREAM)
        except OSError as error:
            raise TryAgain(f"The webhook's host {parts.host} cannot be resolved.") from error
        for *_, address in found:
            literal = ipaddress.ip_address(str(address[0]).partition("%")[0])
            if self._hosts is None or self._hosts.allows(parts.host, literal):
                return parts.copy_with(host=str(literal)), parts.netloc.decode()
        raise InvalidInput(
            f"Posthouse may not connect to {parts.host}.",
            field="url",
            hint="POSTHOUSE_ALLOWED_HOSTS and POSTHOUSE_DENIED_HOSTS say where it may.",
        )


def send_test(
    vault: Vault,
    target: Target,
    alert: Alert,
    *,
    public_url: str = "",
    hosts: HostRules | None = None,
) -> tuple[int | None, str | None]:
    """Tells one alert to one webhook now, logging nothing; returns (HTTP status, error)."""
    call = Caller(vault, utc_now(), public_url, hosts).tell([(alert, target)])[0]
    return call.status, call.error


def _retry_after(answer: httpx.Response) -> timedelta | None:
    """RFC 9110 section 10.2.3, the form in seconds; at most a day."""
    with contextlib.suppress(ValueError):
        return timedelta(seconds=min(int(answer.headers.get("retry-after", "")), 86_400))
    return None
