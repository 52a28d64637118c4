"""Many small mails: from Dovecot to the event on the handler's queue, beside mbsync and fetchmail.

`make bench NAME=fetch`. Corpus A is 10,000 mails of 8 kB in one mailbox. In each turn mbsync (with
its default fsync), fetchmail (with a delivery agent that syncs each mail), a reader that only
reads, and Posthouse with all its services fetch such a mailbox, one after the other.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from bench import before, peers, report
from bench.corpora import SMALL, small
from bench.report import Series
from bench.stand import Stand, spent

OURS = "Posthouse, all services"
BEFORE = "the same, before"
MBSYNC, FETCHMAIL = "mbsync, fsync", "fetchmail, agent with fsync"
RAW = "reader, bytes only"
#: What measures the code of before, too: the same servers with the same settings.
_MEASURING = ("bench/before.py", "bench/fetch.py", "bench/stand.py", "tests/rig/forkserver.py")


def main(argv: Sequence[str]) -> int:
    parser = argparse.ArgumentParser(prog="bench fetch", description=__doc__)
    parser.add_argument("--turns", type=int, default=3)
    parser.add_argument("--mails", type=int, default=10_000)
    parser.add_argument("--fetchmail-mails", type=int, default=1500, help="it is slow: fewer")
    parser.add_argument("--only-posthouse", action="store_true", help="while tuning")
    parser.add_argument("--no-write", action="store_true", help="only print")
    parser.add_argument("--before", default="", help="a commit to measure beside this code")
    parser.add_argument("--one", type=Path, help=argparse.SUPPRESS)
    chosen = parser.parse_args(argv)
    found = _beside(chosen) if chosen.before else _measure(chosen)
    if chosen.one:
        chosen.one.write_text(json.dumps(found))
        return 0
    _report(chosen, found)
    return 0


def _measure(chosen: argparse.Namespace) -> dict[str, list[Any]]:
    """Mails/s of each contender by name, one value a turn; `walls` in seconds, `used` by part."""
    found: dict[str, list[Any]] = {}

    def note(name: str, value: Any) -> None:
        found.setdefault(name, []).append(value)

    with Stand() as stand:
        first = stand.watch("warm-up")
        stand.dovecot.deliver("warm-up", small(600, seed=99))
        stand.turn([first], 600)
        for turn in range(chosen.turns):
            user = f"a{turn}"
            stand.dovecot.deliver(user, small(chosen.mails, seed=turn))
            port = stand.dovecot.imap_port
            if not chosen.only_posthouse:
                took, mails, _ = peers.read_raw(port, user)
                note(RAW, mails / took)
                pull = peers.Mbsync(stand.folder / "mbsync")
                pull.prepare([user], port)
                note(MBSYNC, chosen.mails / pull.run(chosen.mails))
                few = min(chosen.fetchmail_mails, chosen.mails)
                slow = peers.Fetchmail(stand.folder / "fetchmail")
                stand.dovecot.deliver(f"f{turn}", small(few, seed=turn))
                slow.prepare([f"f{turn}"], port)
                note(FETCHMAIL, few / slow.run(few))
            connection = stand.watch(user)
            used = stand.processor_time()
            took = stand.turn([connection], chosen.mails)
            note("used", spent(used, stand.processor_time()))
            note("walls", took)
            note(OURS, chosen.mails / took)
    return found


def _beside(chosen: argparse.Namespace) -> dict[str, list[Any]]:
    """The same with the code of before."""
    told = ["--turns", "1", "--mails", str(chosen.mails)]
    told += ["--fetchmail-mails", str(chosen.fetchmail_mails)]
    return before.beside(
        chosen.before,
        _MEASURING,
        "fetch",
        chosen.turns,
        told,
        peers=not chosen.only_posthouse,
        renamed={OURS: BEFORE},
    )


def _report(chosen: argparse.Namespace, found: dict[str, list[Any]]) -> None:
    series = [
        Series(name, found[name])
        for name in (RAW, MBSYNC, FETCHMAIL, BEFORE, OURS)
        if name in found
    ]
    lines = [
        "# Many small mails: from the mail server to the handler's queue",
        "",
        f"{chosen.mails:,} mails of {SMALL:,} octets in one mailbox, IMAP in plain text on "
        f"loopback, {chosen.turns} turns, each contender once a turn. "
        f"{report.machine()} {peers.versions()}; "
        f"fetchmail had {min(chosen.fetchmail_mails, chosen.mails):,} mails a turn. Posthouse: "
        "from the moment at which the connection is due to the last event on the Redis stream.",
        "",
        *report.table(series, "mails/s", OURS),
        "",
    ]
    wanted = [
        ("times mbsync with fsync", MBSYNC, 4),
        ("times fetchmail with fsync", FETCHMAIL, 12),
        (f"times {chosen.before}", BEFORE, 1.3),
    ]
    lines += report.comparisons(series, OURS, wanted)
    lines += ["", "![the same as a plot](fetch.svg)", ""]
    for heading, which in (("this code", ""), (chosen.before, " before")):
        if f"used{which}" in found:
            lines += [
                f"Where Posthouse's time goes, {heading} (flags on the server and the ledger's "
                "last updates included, which end after the last event):",
                "",
                *report.parts(found[f"used{which}"], found[f"walls{which}"], chosen.mails),
                "",
            ]
    drawing = report.plot("10,000 mails of 8 kB", "mails/s", series)
    keep = not chosen.only_posthouse and not chosen.no_write
    report.write("fetch", lines, {"fetch": drawing}, keep=keep)
