"""The bootstrap token (`POSTHOUSE_ADMIN_TOKEN`): who gives it, and the sessions that it starts."""

from __future__ import annotations

import hmac
from typing import Final

from services.admin.auth.tokens import digest_of

_MARK: Final = "b."


class BootstrapToken:
    """Opens everything while there are no people. `value` is empty where there is none."""

    def __init__(self, value: str | None) -> None:
        self.value = value or ""

    def is_given(self, token: str) -> bool:
        """Whether `token` is this one."""
        return bool(self.value) and hmac.compare_digest(token.encode(), self.value.encode())

    @staticmethod
    def mark(cookie: str) -> str:
        """The cookie of a session that this token starts."""
        return _MARK + cookie

    def session_digest(self, cookie: str) -> bytes | None:
        """What a session is kept under, whoever started it. One of the bootstrap token ends when
        that token is changed or taken away: None where there is none any more."""
        if cookie.startswith(_MARK):
            return digest_of(cookie + self.value) if self.value else None
        return digest_of(cookie)
