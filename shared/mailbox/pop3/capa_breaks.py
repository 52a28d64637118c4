"""Which POP3 servers end the session at CAPA (RFC 2449), so that they are not asked it.

RFC 1939 has no CAPA, and a server answers what it does not know with -ERR (section 3); some older
ones, and filters before them, hang up. Nothing else is known of these: whether QUIT removes what
was retrieved (EXPIRE) stays open, as where CAPA is refused. So a server counts as one only where
sessions of one mailbox ended there again and again, and it never answered CAPA in any.
"""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from typing import Final

#: So many sessions of one mailbox end at CAPA in a row until the server is asked no more.
BREAKS: Final = 3
#: Seconds until it is asked again.
UNASKED_S: Final = 3600.0


@dataclass(slots=True)
class CapaBreaks:
    """What is known of one server: how many sessions of each mailbox (by connection) ended at CAPA,
    whether it ever answered it, and until when (monotonic clock) it is not asked."""

    breaks: dict[int, int] = field(default_factory=dict)
    answers: bool = False
    unasked_until: float = 0.0

    @property
    def is_asked(self) -> bool:
        return self.unasked_until <= time.monotonic()

    def answered(self) -> None:
        self.answers = True
        self.breaks.clear()
        self.unasked_until = 0.0

    def broke(self, connection_id: int) -> None:
        """A session of this connection ended, or said nothing more, at CAPA."""
        if self.answers:
            return
        self.breaks[connection_id] = self.breaks.get(connection_id, 0) + 1
        if self.breaks[connection_id] >= BREAKS:
            self.unasked_until = time.monotonic() + UNASKED_S


#: By host and port, for this process.
KNOWN: Final[dict[tuple[str, int], CapaBreaks]] = {}


def of_server(endpoint: tuple[str, int]) -> CapaBreaks:
    """What this process knows of the server."""
    return KNOWN.setdefault(endpoint, CapaBreaks())
