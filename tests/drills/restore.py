"""Postgres and the store are lost, and restored from a backup that was taken while mails arrived.

In the order of docs/operations.md: services stopped, the store, then Postgres, an empty broker,
`posthouse migrate`, services started. Mails that were downloaded after the backup and marked read
are had by `all`; those that were deleted on their server are with the handler alone.
"""

from __future__ import annotations

import shutil
import subprocess
import time
from pathlib import Path

from tests.drills.site import REPLICAS, Outcome, Site, say
from tests.rig.rollout import Rollout
from tests.servers.redis import RedisServer


def drill(folder: Path) -> Outcome:
    with RedisServer() as broker, Site(folder, broker=broker, durable=True) as site:
        site.start()
        dump, copy = folder / "posthouse.dump", folder / "store-of-backup"
        with site.mailing():
            site.stack.wait(lambda: len(site.handler.seen) > 20, "mails arrive")
            # Postgres first, then the store: the store is never of an earlier moment.
            _run(site, "pg_dump", "-Fc", "-f", str(dump), site.database_url)
            shutil.copytree(site.stack.store, copy)
            at_backup = len(site.sent)
            site.stack.wait(lambda: len(site.handler.seen) > at_backup + 20, "mails go on")
            site.stack.stop()
        say(f"the backup was taken after {at_backup} mails, all was lost after {len(site.sent)}")
        shutil.rmtree(site.stack.store)
        shutil.copytree(copy, site.stack.store)
        site.stack.database.close()
        name = site.database_url.rpartition("/")[2]
        site.postgres.drop_database(site.database_url)
        site.postgres.execute(f"CREATE DATABASE {name}")
        _run(site, "pg_restore", "--no-owner", "-d", site.database_url, str(dump))
        broker.replace()
        say(site.posthouse("migrate"))
        site.reopen()
        known = site.stack.count("message")
        site.stack.execute("UPDATE connection SET selection = 'all' WHERE mode = 'imap'")
        started = time.monotonic()
        before = len(site.handler.seen)
        Rollout(site.stack, REPLICAS)
        found = site.outcome()
        gone = found.sent - site.stack.count("message")
        new = len(site.handler.seen) - before
        # What Postgres did not know any more is another mail to it, with another event id.
        renamed = len(site.handler.digests) - len(set(site.handler.digests.values()))
        say(
            f"Postgres knew {known} mails; of {new} that came as new ones "
            f"the handler had had {renamed}, and {found.twice} came again with the same event id, "
            f"in {time.monotonic() - started:.0f} s"
        )
        say(
            f"{gone} that were deleted on their servers after the backup are with the handler alone"
        )
        return found


def _run(site: Site, program: str, *arguments: str) -> None:
    found = site.postgres.binaries / program
    subprocess.run([str(found), *arguments], check=True)
