"""How many logins may fail, from where and under which name, before more are refused unseen.

An attempt is counted before its password is looked at, so that many at once are no way around the
limits. They are no lock-out either: what strangers do under a name counts against strangers, and a
browser in which somebody of that name has logged in before has a count of its own (its *device*).
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta
from typing import Final

import structlog

from services.admin.auth.token_guesses import TooManyAttempts, network_of
from shared.storage import audit, browser_sessions
from shared.storage.pool import Database

_log = structlog.get_logger(__name__)

WINDOW: Final = timedelta(minutes=15)
#: Under one name from one network, or from one device.
OF_A_NAME: Final = 10
#: From one network, whatever the names.
OF_A_NETWORK: Final = 50
#: Begun with one link that authorises a mailbox.
OF_A_LINK: Final = 20
#: Under one name from all devices that never logged in under it.
OF_STRANGERS: Final = 100
#: The bootstrap token is random and long: strangers cannot guess it, so they do not count together.
BOOTSTRAP: Final = "bootstrap"


@dataclass(frozen=True, slots=True)
class Origin:
    """Where a login comes from: the peer's address, and the device cookie it showed (or "")."""

    address: str
    device: str = ""


@dataclass(frozen=True, slots=True)
class LoginAttempt:
    """One counted attempt; `sources` are what it was counted under."""

    who: str
    network: str
    sources: tuple[str, ...]


def count_login(
    database: Database, who: str, origin: Origin, *, known_device: bool
) -> LoginAttempt:
    """Counts an attempt under `who` (a name in lower case, or BOOTSTRAP).

    Raises TooManyAttempts where there were too many within WINDOW; such a one is not counted.
    """
    network = network_of(origin.address)
    limits = {f"network {network}": OF_A_NETWORK}
    if known_device:
        limits[f"device {origin.device}"] = OF_A_NAME
    else:
        limits[f"name {who} {network}"] = OF_A_NAME
        if who != BOOTSTRAP:
            limits[f"strangers {who}"] = OF_STRANGERS
    with database.transaction() as session:
        counts = browser_sessions.count_attempt(session, list(limits), WINDOW)
        over = [source for source, limit in limits.items() if counts[source] > limit]
        if not over:
            return LoginAttempt(who, network, tuple(limits))
        session.rollback()
        audit.record_once(session, who, "logins refused for a while", f"network/{network}", WINDOW)
    _log.warning("logins refused for a while", name=who, network=network)
    raise TooManyAttempts(
        "Too many failed logins.",
        hint="Wait a quarter of an hour, then try again. A browser that has logged in here before "
        "is not held up by others.",
        retry_after=WINDOW.total_seconds(),
    )


def count_login_by_link(database: Database, link_id: int, address: str) -> None:
    """Counts a login at a provider that a link begins: each asks the provider, and keeps a row.
    Raises TooManyAttempts."""
    limits = {f"link {link_id}": OF_A_LINK, f"links {network_of(address)}": OF_A_NETWORK}
    with database.transaction() as session:
        counts = browser_sessions.count_attempt(session, list(limits), WINDOW)
        if all(counts[source] <= limit for source, limit in limits.items()):
            return
        session.rollback()
    raise TooManyAttempts(
        "Too many logins were begun with this link.",
        hint="Wait a quarter of an hour, then try again.",
        retry_after=WINDOW.total_seconds(),
    )


def failed(database: Database, attempt: LoginAttempt) -> None:
    """Writes that it failed. Bounded, as attempts are."""
    _log.warning("login failed", name=attempt.who, network=attempt.network)
    with database.transaction() as session:
        audit.record(session, attempt.who, "login refused", f"network/{attempt.network}")


def succeeded(database: Database, attempt: LoginAttempt) -> None:
    """What failed before under this name from there is forgotten, and this one was no failure."""
    with database.transaction() as session:
        browser_sessions.forget_attempts(session, list(attempt.sources))
