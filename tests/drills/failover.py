"""Redis is killed and comes back, then an empty one stands in its place."""

from __future__ import annotations

import time
from pathlib import Path

from tests.drills.site import Outcome, Site, say
from tests.servers.redis import RedisServer

_AWAY_S = 2.0


def drill(folder: Path) -> Outcome:
    with RedisServer() as redis, Site(folder, broker=redis) as site:
        site.start()
        with site.mailing():
            site.stack.wait(lambda: len(site.handler.seen) > 20, "mails arrive")
            redis.kill()
            time.sleep(_AWAY_S)  # mails arrive, and nobody can be told
            redis.start()
            _back(site, "Redis was killed and came back with its last second gone")
            redis.replace()
            _back(site, "Redis was killed and an empty one stands in its place")
        return site.outcome()


def _back(site: Site, what: str) -> None:
    """Until mails that are sent from now on are handed over again."""
    before, started = len(site.handler.seen), time.monotonic()
    site.stack.wait(lambda: len(site.handler.seen) > before + 10, f"mails go on: {what}", 120)
    say(f"{what}: mails went on after {time.monotonic() - started:.1f} s")
