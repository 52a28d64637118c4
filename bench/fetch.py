"""Many small mails: from Dovecot to the event on the handler's queue, beside mbsync and fetchmail.

`make bench NAME=fetch`. Corpus A is 10,000 mails of 8 kB in one mailbox. In each turn mbsync (with
its default fsync), fetchmail (with a delivery agent that syncs each mail), a reader that only
reads, and Posthouse with all its services fetch such a mailbox, one after the other.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence

from bench import peers, report
from bench.corpora import SMALL, small
from bench.report import Series
from bench.stand import Stand, spent

OURS = "Posthouse, all services"


def main(argv: Sequence[str]) -> int:
    parser = argparse.ArgumentParser(prog="bench fetch", description=__doc__)
    parser.add_argument("--turns", type=int, default=3)
    parser.add_argument("--mails", type=int, default=10_000)
    parser.add_argument("--fetchmail-mails", type=int, default=1500, help="it is slow: fewer")
    parser.add_argument("--only-posthouse", action="store_true", help="while tuning")
    parser.add_argument("--no-write", action="store_true", help="only print")
    chosen = parser.parse_args(argv)
    mbsync, fetchmail = Series("mbsync, fsync"), Series("fetchmail, agent with fsync")
    raw, ours = Series("reader, bytes only"), Series(OURS)
    walls: list[float] = []
    used: list[dict[str, float]] = []
    with Stand() as stand:
        first = stand.watch("warm-up")
        stand.dovecot.deliver("warm-up", small(600, seed=99))
        stand.turn([first], 600)
        others = not chosen.only_posthouse
        for turn in range(chosen.turns):
            user = f"a{turn}"
            stand.dovecot.deliver(user, small(chosen.mails, seed=turn))
            port = stand.dovecot.imap_port
            if others:
                took, mails, _ = peers.read_raw(port, user)
                raw.values.append(mails / took)
                pull = peers.Mbsync(stand.folder / "mbsync")
                pull.prepare([user], port)
                mbsync.values.append(chosen.mails / pull.run(chosen.mails))
                few = min(chosen.fetchmail_mails, chosen.mails)
                slow = peers.Fetchmail(stand.folder / "fetchmail")
                stand.dovecot.deliver(f"f{turn}", small(few, seed=turn))
                slow.prepare([f"f{turn}"], port)
                fetchmail.values.append(few / slow.run(few))
            connection = stand.watch(user)
            before = stand.processor_time()
            took = stand.turn([connection], chosen.mails)
            used.append(spent(before, stand.processor_time()))
            walls.append(took)
            ours.values.append(chosen.mails / took)
    series = [raw, mbsync, fetchmail, ours] if others else [ours]
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
    if others:
        lines += report.verdicts(
            [
                ("times mbsync with fsync", ours.median / mbsync.median, "≥", 4),
                ("times fetchmail with fsync", ours.median / fetchmail.median, "≥", 10),
            ]
        )
        lines += ["", "![the same as a plot](fetch.svg)", ""]
    lines += [
        "Where Posthouse's time goes (flags on the server and the ledger's last updates included, "
        "which end after the last event):",
        "",
        *report.parts(used, walls, chosen.mails),
    ]
    drawing = report.plot("10,000 mails of 8 kB", "mails/s", series)
    keep = others and not chosen.no_write
    report.write("fetch", lines, {"fetch": drawing}, keep=keep)
    return 0
