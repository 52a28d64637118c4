"""Another, empty broker takes over, for jobs and handlers' queues, as docs/operations.md says."""

from __future__ import annotations

from pathlib import Path

from tests.drills.site import REPLICAS, Outcome, Site, say
from tests.servers.redis import RedisServer


def drill(folder: Path) -> Outcome:
    with RedisServer() as new, Site(folder) as site:
        rollout = site.start()
        with site.mailing():
            site.stack.wait(lambda: len(site.handler.seen) > 20, "mails arrive")
            for name in ("BROKER", "OUTPUT"):
                site.stack.environment[f"POSTHOUSE_{name}_URL"] = new.url
            for service in REPLICAS:
                rollout.restart(service)
            say(f"services were rolled to the new broker after {len(site.sent)} mails")
            # The old queues are drained once more; only then the handler goes to the new broker.
            before = -1
            while before != len(site.handler.seen):
                before = len(site.handler.seen)
                site.stack.wait(lambda: site.stack.count("outbox") < 50, "events are published")
            site.handler.stop()
            say(f"the handler drained the old queue: {before} mails came through it")
            moved = site.handle(new.url)
        found = site.outcome([site.handler, moved])
        say(f"{len(moved.seen)} mails came through the new queue, {found.twice} of them again")
        return found
