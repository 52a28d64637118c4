"""Services of another commit are replaced by this version's, on the schema that this one migrated.

Without `FROM=<git ref>` it is the last tag, or the commit before where there is none.
"""

from __future__ import annotations

import subprocess
import tempfile
from pathlib import Path

from tests.drills.site import REPLICAS, Outcome, Site, say
from tests.rig.house import ROOT
from tests.rig.zygote import Zygote


def drill(folder: Path, ref: str = "") -> Outcome:
    ref = ref or _git("describe", "--tags", "--abbrev=0", check=False) or "HEAD~1"
    with tempfile.TemporaryDirectory(prefix="posthouse-drill-") as place:
        before = Path(place) / "before"
        before.mkdir()
        archive = subprocess.run(
            ["git", "-C", str(ROOT), "archive", ref], check=True, capture_output=True
        )
        subprocess.run(["tar", "-x", "-C", str(before)], input=archive.stdout, check=True)
        old = Zygote(before)
        try:
            return _upgraded(folder, old, f"{ref} ({_git('rev-parse', '--short', ref)})")
        finally:
            old.close()


def _upgraded(folder: Path, old: Zygote, what: str) -> Outcome:
    with Site(folder) as site:
        new = site.house.zygote
        site.house.zygote = old
        rollout = site.start()
        with site.mailing():
            site.house.wait(lambda: len(site.handler.seen) > 20, "mails arrive")
            say(f"services of {what} work on the schema of this version")
            site.house.zygote = new
            for service in REPLICAS:
                rollout.restart(service)
                say(f"{service}: every old replica was replaced by a new one")
        return site.outcome()


def _git(*arguments: str, check: bool = True) -> str:
    done = subprocess.run(
        ["git", "-C", str(ROOT), *arguments], check=check, capture_output=True, text=True
    )
    return done.stdout.strip()
