"""How long the runs of each lane may wait for a server.

The common lane is for mailboxes whose servers answer soon: what takes longer goes on in the slow
lane, where nobody waits behind it who could be served at once.
"""

from __future__ import annotations

from enum import Enum
from typing import Final

from services.fetcher.settings import FetcherSettings
from shared.mailbox.wait_budget import WaitBudget

#: Octets that earn a second in the common lane: what comes more slowly is for the slow one.
_SOON: Final = 256 << 10
#: Read time-outs that a run in the slow lane may wait beyond what it earned.
_TIMEOUTS: Final = 5
#: What a request earns in the slow lane, for lines over satellites: this part of the read time-out.
_REQUEST: Final = 1 / 60


class Lane(Enum):
    COMMON = "whoever does not end soon goes on in the slow lane"
    SLOW = "whoever does not end here fails"

    def budget(self, settings: FetcherSettings) -> WaitBudget:
        """A new one for a run. In the common lane it is half the time that a run may take at all
        before others are let in."""
        if self is Lane.COMMON:
            return WaitBudget(settings.slice_seconds / 2, octets_a_second=_SOON)
        timeout_s = settings.read_timeout_seconds
        return WaitBudget(_TIMEOUTS * timeout_s, request_s=_REQUEST * timeout_s)
