"""Services of another version are replaced by this one's and come back, on this one's schema.

Without `FROM=<git ref>` it is the last tag, or, in a clone without tags, the commit of the last
release; the drill says what it took.
"""

from __future__ import annotations

import contextlib
import subprocess
import tempfile
from pathlib import Path

from tests.drills.site import REPLICAS, Outcome, Site, say
from tests.rig.forkserver import Forkserver
from tests.rig.rollout import Rollout
from tests.rig.stack import ROOT

# The subject of a release's commit (CONTRIBUTING.md): clones often come without tags.
RELEASE = "^Release [0-9]+\\.[0-9]+\\.[0-9]+$"


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
        return _upgraded(folder, before, f"{ref} ({_git('rev-parse', '--short', ref)})")


def _upgraded(folder: Path, before: Path, what: str) -> Outcome:
    with Site(folder, before=before) as site, contextlib.closing(Forkserver(before)) as old:
        new = site.stack.forkserver
        site.stack.forkserver = old
        rollout = Rollout(site.stack, REPLICAS)
        site.describe(rollout)
        with site.mailing():
            _await_mails(site)
            say(f"services of {what} work")
            site.migrate(ROOT)
            _await_mails(site)
            say("this version has migrated beside them, and they work on")
            for version, forkserver in (("this version", new), (what, old)):
                site.stack.forkserver = forkserver
                for service in REPLICAS:
                    rollout.restart(service)
                    say(f"{service}: every replica was replaced by one of {version}")
                _await_mails(site)
        return site.outcome()


def _await_mails(site: Site) -> None:
    enough = len(site.handler.seen) + 20
    site.stack.wait(lambda: len(site.handler.seen) > enough, "mails arrive")


def _default() -> tuple[str, str]:
    """What is upgraded from, and why."""
    if tag := _git("describe", "--tags", "--abbrev=0", check=False):
        return tag, "the last tag"
    released = _git("log", "-1", "--format=%h", "--extended-regexp", "--grep", RELEASE)
    if not released:
        return "HEAD", "as this clone has neither a tag nor the commit of a release"
    return released, f"the last release ({_git('log', '-1', '--format=%s', released)})"


def _distance(ref: str) -> str:
    return f"{_git('rev-list', '--count', f'{ref}..HEAD')} commits"


def _git(*arguments: str, check: bool = True) -> str:
    done = subprocess.run(
        ["git", "-C", str(ROOT), *arguments], check=False, capture_output=True, text=True
    )
    if check and done.returncode:
        raise SystemExit(f"git {' '.join(arguments)}: {done.stderr}")
    return done.stdout.strip()
