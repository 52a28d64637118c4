"""What is known about the revocation of certificates: a value of its own, with its age.

The scheduler learns it in the background, the decryptor's verdict takes what is known at that
moment, and event and page show it. Nobody waits for it.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import datetime
from typing import Any, Final, Literal, NamedTuple, get_args

#: `good`: an authority said, as of a time, that it has not revoked it. `revoked`: it has.
#: `unknown`: it was asked, and there is no answer that counts (any more). `not-checked`: nobody
#: was asked yet, or the certificate names nobody who could be.
Status = Literal["good", "revoked", "unknown", "not-checked"]
#: A certificate revocation list (RFC 5280), or the answer of a responder (RFC 6960).
Source = Literal["crl", "ocsp"]
#: Whether anybody is asked, and whether a signature counts that nobody spoke for.
Mode = Literal["off", "background", "require"]

_WORST: Final[tuple[Status, ...]] = ("revoked", "unknown", "not-checked", "good")
#: The one revocation that may end again (RFC 5280 section 5.3.1).
_ON_HOLD: Final = "certificateHold"


class Revocation(NamedTuple):
    """What is known of one certificate, or of all on a path.

    `as_of` is the time for which the authority spoke (thisUpdate), `next_update` until when that
    counts. `reason` is the word of RFC 5280 section 5.3.1 for a revoked certificate, else a
    sentence for people, empty where there is nothing to say.
    """

    status: Status = "not-checked"
    source: Source | None = None
    as_of: datetime | None = None
    next_update: datetime | None = None
    reason: str = ""
    revoked_at: datetime | None = None

    def at(self, now: datetime) -> Revocation:
        """The same as it counts at an instant: a good word has an end, a bad one has none."""
        if self.status == "good" and self.next_update is not None and self.next_update <= now:
            return self._replace(status="unknown", reason="What the authority said is out of date.")
        return self

    @property
    def is_final(self) -> bool:
        """Whether no later word can take it back."""
        return self.status == "revoked" and self.reason != _ON_HOLD

    def is_newer(self, known: Revocation) -> bool:
        """Whether it takes the place of what is known: an older answer may be a replayed one."""
        if known.is_final and self.status != "revoked":
            return False
        if known.as_of is None:
            return True
        return self.as_of is not None and self.as_of >= known.as_of

    def to_json(self) -> dict[str, Any]:
        """As the ledger keeps it and the event carries it; times in RFC 3339."""
        return {
            "status": self.status,
            "source": self.source,
            "as_of": self.as_of and self.as_of.isoformat(),
            "reason": self.reason,
            "revoked_at": self.revoked_at and self.revoked_at.isoformat(),
        }

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> Revocation:
        """The reverse of `to_json`. Raises ValueError where a word or a time is none."""
        for name, words in (("status", get_args(Status)), ("source", (*get_args(Source), None))):
            if value.get(name) not in words:
                raise ValueError(f"{name} cannot be {value.get(name)!r}")
        as_of, revoked_at = value.get("as_of"), value.get("revoked_at")
        return cls(
            status=value["status"],
            source=value.get("source"),
            as_of=datetime.fromisoformat(as_of) if as_of else None,
            reason=value.get("reason") or "",
            revoked_at=datetime.fromisoformat(revoked_at) if revoked_at else None,
        )


def of_path(found: Iterable[Revocation]) -> Revocation | None:
    """What is known of a whole path: the worst of its certificates, with the age of the oldest
    word; None where there is no certificate to ask for."""
    known = list(found)
    if not known:
        return None
    worst = min(known, key=lambda one: _WORST.index(one.status))
    if worst.status != "good":
        return worst
    return min(known, key=lambda one: (one.as_of is not None, one.as_of))
