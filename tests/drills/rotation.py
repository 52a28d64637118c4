"""The secret keys are rotated as docs/operations.md says, word for word, while mails arrive."""

from __future__ import annotations

from pathlib import Path

import httpx

from tests.drills.site import REPLICAS, Outcome, Site, say
from tests.rig.rollout import Rollout
from tests.rig.stack import ADMIN_TOKEN


def drill(folder: Path) -> Outcome:
    with Site(folder) as site:
        rollout = site.start()
        with site.mailing():
            old = site.stack.secret_keys[0]
            new = site.posthouse("secrets", "new-key")
            site.stack.secret_keys = [old, new]
            _roll(rollout, "first roll: the old key seals, the new one opens", site)
            site.stack.secret_keys = [new, old]
            _roll(rollout, "second roll: the new key seals, the old one opens", site)
            last = site.posthouse("secrets", "rotate").splitlines()[-1]
            say(f"posthouse secrets rotate: {last}")
            site.stack.secret_keys = [new]
            _roll(rollout, "third roll: the old key is gone", site)
        found = site.outcome()
        say(f"runs that failed on the way: {found.failed_runs}")
        if found.failed_runs:
            found.notes += map(
                str, site.stack.query("SELECT error FROM fetch_run WHERE error IS NOT NULL")
            )
            found.lost += 1  # a connection that fails in mid-roll is what must not be
        return found


def _roll(rollout: Rollout, what: str, site: Site) -> None:
    """Every service, admin first: what it seals is opened by replicas that are not rolled yet."""
    for service in sorted(REPLICAS):
        rollout.restart(service)
        if service == "admin":
            for connection in site.connections:
                _enter_again(rollout, connection)
    say(f"{what}; passwords were entered anew in the middle of it")


def _enter_again(rollout: Rollout, connection: int) -> None:
    with rollout.api() as api:
        answer = httpx.patch(
            f"{api}/connections/{connection}",
            headers={"Authorization": f"Bearer {ADMIN_TOKEN}"},
            json={"password": "secret"},
            timeout=60,
        )
    assert answer.is_success, answer.text
