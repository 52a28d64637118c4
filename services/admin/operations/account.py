"""One's own account: password and second factor."""

from __future__ import annotations

from collections.abc import Sequence

from services.admin.auth import passwords, second_factor
from services.admin.auth.second_factor import Offered
from services.admin.context import Context
from shared.errors import InvalidInput
from shared.people import SignedIn
from shared.storage import audit, browser_sessions, people, second_factors


def change_password(
    ctx: Context, person_id: int, signed_in: SignedIn, *, current: str, new: str
) -> None:
    """Ends all other sessions. Raises InvalidInput where `current` is wrong, Busy."""
    check_password(ctx, person_id, current)
    hashed = passwords.hashed(new)
    with ctx.transaction() as session:
        people.replace_hash(session, person_id, hashed)
        browser_sessions.end_sessions_of(session, person_id, keep=signed_in.digest)
        audit.record(session, ctx.principal.name, "change password", f"person/{person_id}")


def offer_second_factor(ctx: Context, person_id: int, *, current: str) -> Offered:
    """A secret that counts once it is confirmed. Raises as `change_password`."""
    check_password(ctx, person_id, current)
    with ctx.transaction() as session:
        return second_factor.offer(session, ctx.app_state.vault, person_id, ctx.principal.name)


def confirm_second_factor(
    ctx: Context, person_id: int, signed_in: SignedIn, *, code: str
) -> Sequence[str]:
    """Returns the recovery codes. Ends all other sessions. Raises InvalidInput: a wrong code."""
    with ctx.transaction() as session:
        codes = second_factor.confirm(session, ctx.app_state.vault, person_id, code)
        browser_sessions.end_sessions_of(session, person_id, keep=signed_in.digest)
        audit.record(session, ctx.principal.name, "add second factor", f"person/{person_id}")
    return codes


def remove_second_factor(ctx: Context, person_id: int, *, current: str) -> None:
    """Raises as `change_password`."""
    check_password(ctx, person_id, current)
    with ctx.transaction() as session:
        second_factors.disable_totp(session, person_id)
        audit.record(session, ctx.principal.name, "remove second factor", f"person/{person_id}")


def check_password(ctx: Context, person_id: int, given: str) -> None:
    """Raises InvalidInput where it is not the one in use, Busy."""
    with ctx.transaction() as session:
        found = people.password_of(session, people.person(session, person_id).name)
    stored = found[1] if found else None
    if stored is None:
        return
    with passwords.admitted():
        if not passwords.matches(stored, given):
            raise InvalidInput("This is not your current password.", field="current")
