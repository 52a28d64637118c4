"""Which errors of work that is done again and again are worth a line of the log."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Collection
from dataclasses import dataclass, field
from typing import Final

#: Seconds until an error that lasts is logged again.
LOGGED_AGAIN_S: Final = 60.0


@dataclass(slots=True)
class RepeatedErrors:
    """An error is logged when it is new, and once a minute while it lasts. One for each work.

    `clock`: seconds, as of `time.monotonic`.
    """

    clock: Callable[[], float] = time.monotonic
    _logged_at: dict[str, float] = field(default_factory=dict)

    def to_log(self, errors: Collection[str]) -> list[str]:
        """Those of the errors of one attempt that are to be logged now."""
        now = self.clock()
        wanted = [
            error
            for error in errors
            if now - self._logged_at.get(error, -math.inf) >= LOGGED_AGAIN_S
        ]
        self._logged_at = {
            error: now if error in wanted else self._logged_at[error] for error in errors
        }
        return wanted
