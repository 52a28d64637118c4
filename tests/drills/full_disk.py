"""The store's disk is full for a while: mails stay on their servers until there is room."""

from __future__ import annotations

import contextlib
import time
from pathlib import Path

from shared.errors import PosthouseError
from tests.drills.disk import fill, small_disk
from tests.drills.site import Outcome, Site, say

_MEGABYTES = 64
_FULL_S = 4.0


def drill(folder: Path) -> Outcome:
    with small_disk(folder / "store", _MEGABYTES) as disk, Site(folder) as site:
        site.start()
        with site.mailing():
            site.stack.wait(lambda: len(site.handler.seen) > 20, "mails arrive")
            ballast = fill(disk)
            had = len(site.handler.seen)
            site.stack.wait(lambda: _says_so(site), "the full store is told", 60)
            time.sleep(_FULL_S)  # mails that arrive meanwhile stay on their servers
            say(
                f"the disk was full: {len(site.sent)} mails were sent, {had} were handed over "
                "before; the service's own health says it"
            )
            ballast.unlink()
            site.stack.wait(lambda: len(site.handler.seen) > had + 10, "mails go on", 120)
            say("there was room again, and mails went on")
        return site.outcome()


def _says_so(site: Site) -> bool:
    with contextlib.suppress(PosthouseError):
        return bool(site.stack.query("SELECT FROM service WHERE failing ? 'store' LIMIT 1"))
    return False
