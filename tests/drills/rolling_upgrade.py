"""Services of another commit are replaced by this version's, on the schema that this one migrated.

Without `FROM=<git ref>` it is the last tag. While there is none it is the oldest commit with the
schema of today, which may be this very one; the drill says what it took.
"""

from __future__ import annotations

import subprocess
import tempfile
from pathlib import Path

from tests.drills.site import REPLICAS, Outcome, Site, say
from tests.rig.forkserver import Forkserver
from tests.rig.stack import ROOT


def drill(folder: Path, ref: str = "") -> Outcome:
    ref, why = (ref, "as asked for") if ref else _default()
    say(f"from {ref}, {why}: {_distance(ref)} before this one")
    with tempfile.TemporaryDirectory(prefix="posthouse-drill-") as place:
        before = Path(place) / "before"
        before.mkdir()
        archive = subprocess.run(
            ["git", "-C", str(ROOT), "archive", ref], check=True, capture_output=True
        )
        subprocess.run(["tar", "-x", "-C", str(before)], input=archive.stdout, check=True)
        old = Forkserver(before)
        try:
            return _upgraded(folder, old, f"{ref} ({_git('rev-parse', '--short', ref)})")
        finally:
            old.close()


def _upgraded(folder: Path, old: Forkserver, what: str) -> Outcome:
    with Site(folder) as site:
        new = site.stack.forkserver
        site.stack.forkserver = old
        rollout = site.start()
        with site.mailing():
            site.stack.wait(lambda: len(site.handler.seen) > 20, "mails arrive")
            say(f"services of {what} work on the schema of this version")
            site.stack.forkserver = new
            for service in REPLICAS:
                rollout.restart(service)
                say(f"{service}: every old replica was replaced by a new one")
        return site.outcome()


def _default() -> tuple[str, str]:
    """What is upgraded from, and why."""
    if tag := _git("describe", "--tags", "--abbrev=0", check=False):
        return tag, "the last tag"
    changed = _git("log", "-1", "--format=%h", "--", ":(glob)shared/storage/migrations/**/*.sql")
    return changed or "HEAD", "as there is no tag: the oldest commit with the schema of today"


def _distance(ref: str) -> str:
    return f"{_git('rev-list', '--count', f'{ref}..HEAD')} commits"


def _git(*arguments: str, check: bool = True) -> str:
    done = subprocess.run(
        ["git", "-C", str(ROOT), *arguments], check=False, capture_output=True, text=True
    )
    if check and done.returncode:
        raise SystemExit(f"git {' '.join(arguments)}: {done.stderr}")
    return done.stdout.strip()
