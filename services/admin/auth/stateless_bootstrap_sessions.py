"""Sessions of the bootstrap token for while Postgres takes no changes: none can be written then.

An administrator has to see why. The cookie says when it ends, under a key that is made of the
token: it ends soon, and with the token. No row is kept of it, so it is in no list of sessions, and
cannot be ended before.
"""

from __future__ import annotations

import hmac
import re
import secrets
import time
from datetime import UTC, datetime, timedelta
from typing import Final

from services.admin.auth.tokens import digest_of
from shared.people import Principal, Role, SignedIn
from shared.storage import browser_sessions

LIFETIME: Final = timedelta(minutes=15)
_MARK: Final = "sealed."
_VALUE: Final = re.compile(r"sealed\.([0-9]{1,12})\.[A-Za-z0-9_-]{43}\.([0-9a-f]{64})")


def is_sealed(value: str) -> bool:
    """Whether a cookie claims to be one of these."""
    return value.startswith(_MARK)


def start(bootstrap_token: str) -> str:
    """A new cookie for somebody who has shown this token."""
    ends = int(time.time() + LIFETIME.total_seconds())
    claim = f"{_MARK}{ends}.{secrets.token_urlsafe(32)}"
    return f"{claim}.{_mac(bootstrap_token, claim)}"


def signed_in(value: str, bootstrap_token: str) -> SignedIn | None:
    """The session of such a cookie; None where it is none, or ended, or of another token."""
    found = _VALUE.fullmatch(value)
    if found is None or not bootstrap_token or int(found[1]) < time.time():
        return None
    claim = value.rpartition(".")[0]
    if not hmac.compare_digest(found[2], _mac(bootstrap_token, claim)):
        return None
    return SignedIn(
        principal=Principal(name=browser_sessions.BOOTSTRAP, role=Role.ADMIN),
        csrf=_mac(bootstrap_token, f"csrf of {claim}"),
        digest=digest_of(value),
        expires_at=datetime.fromtimestamp(int(found[1]), UTC),
    )


def _mac(token: str, text: str) -> str:
    return hmac.digest(token.encode(), f"posthouse session {text}".encode(), "sha256").hex()
