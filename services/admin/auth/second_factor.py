"""A second factor beside the password: time-based one-time codes (TOTP, RFC 6238).

The secret is sealed like every other one. A code works once; eight recovery codes stand in for a
lost phone, each once.
"""

from __future__ import annotations

import secrets
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import pyotp
import segno

from services.admin.auth.tokens import digest_of
from shared.errors import InvalidInput
from shared.storage import audit, second_factors
from shared.storage.pool import Session
from shared.vault import Vault, totp_path

ISSUER: Final = "Posthouse"
_STEP_SECONDS: Final = 30
_RECOVERY_CODES: Final = 8


@dataclass(frozen=True, slots=True)
class Offered:
    """A new secret, for the person's authenticator: as text, and as a QR code (SVG)."""

    secret: str
    picture: str


def offer(session: Session, vault: Vault, person_id: int, name: str) -> Offered:
    """A secret that counts once a code of it was given (`confirm`)."""
    secret = pyotp.random_base32()
    second_factors.offer_totp(session, person_id, vault.seal(secret.encode(), totp_path(person_id)))
    uri = pyotp.TOTP(secret).provisioning_uri(name=name, issuer_name=ISSUER)
    picture = segno.make(uri, error="m").svg_inline(scale=5, border=2, dark="#000", light="#fff")
    return Offered(secret, picture)


def confirm(session: Session, vault: Vault, person_id: int, code: str) -> Sequence[str]:
    """Switches it on; returns the recovery codes, which are shown once.

    Raises InvalidInput where the code is not one of the secret that was offered."""
    state = second_factors.totp(session, person_id)
    step = None if state.offered is None else _matching(vault, person_id, state.offered, code)
    if step is None:
        raise InvalidInput(
            "This is not the code that the authenticator shows now.",
            field="code",
            hint="Scan the picture again, and look whether the phone's clock is right.",
        )
    recovery = ["-".join((secrets.token_hex(3), secrets.token_hex(3))) for _ in range(8)]
    assert len(recovery) == _RECOVERY_CODES
    second_factors.enable_totp(session, person_id, step, [digest_of(code) for code in recovery])
    return recovery


def accepts(session: Session, vault: Vault, person_id: int, code: str) -> bool:
    """Whether this is a code of now, or a recovery code; each is taken once."""
    plain = code.replace(" ", "").strip().lower()
    state = second_factors.totp(session, person_id)
    if state.secret is None:
        return False
    step = _matching(vault, person_id, state.secret, plain)
    if step is not None:
        return second_factors.use_totp(session, person_id, step)
    if second_factors.use_recovery_code(session, person_id, digest_of(plain)):
        audit.record(session, state.name, "use recovery code", f"person/{person_id}")
        return True
    return False


def _matching(vault: Vault, person_id: int, sealed: bytes, code: str) -> int | None:
    """The time step whose code this is: now, or one before or after (RFC 6238 section 5.2)."""
    totp = pyotp.TOTP(vault.open(sealed, totp_path(person_id)).decode())
    now = int(time.time()) // _STEP_SECONDS
    for step in (now, now - 1, now + 1):
        if secrets.compare_digest(totp.at(step * _STEP_SECONDS).encode(), code.strip().encode()):
            return step
    return None
