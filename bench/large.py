"""Large mails: from Dovecot to the event on the handler's queue, beside mbsync and raw readers.

`make bench NAME=large`. Corpus B is 300 mails of one to ten megabytes. In each turn a reader that
writes each mail to a file without syncing, mbsync with its default fsync, and Posthouse with all
its services fetch such a mailbox.
"""

from __future__ import annotations

import argparse
import shutil
from collections.abc import Sequence

from bench import peers, report
from bench.corpora import large
from bench.report import Series
from bench.stand import Stand, spent

OURS = "Posthouse, all services"


def main(argv: Sequence[str]) -> int:
    parser = argparse.ArgumentParser(prog="bench large", description=__doc__)
    parser.add_argument("--turns", type=int, default=2)
    parser.add_argument("--mails", type=int, default=300)
    parser.add_argument("--only-posthouse", action="store_true", help="while tuning")
    parser.add_argument("--no-write", action="store_true", help="only print")
    chosen = parser.parse_args(argv)
    raw, mbsync = Series("reader, mails to files"), Series("mbsync, fsync")
    ours = Series(OURS)
    walls: list[float] = []
    used: list[dict[str, float]] = []
    octets = 0
    with Stand() as stand:
        first = stand.watch("warm-up")
        stand.dovecot.deliver("warm-up", large(5, seed=99))
        stand.turn([first], 5)
        others = not chosen.only_posthouse
        for turn in range(chosen.turns):
            user = f"b{turn}"
            octets = 0
            corpus = list(large(chosen.mails, seed=turn))
            octets = sum(map(len, corpus))
            stand.dovecot.deliver(user, corpus)
            del corpus
            port = stand.dovecot.imap_port
            if others:
                target = stand.folder / "raw"
                target.mkdir()
                took, _, read = peers.read_raw(port, user, write_to=target)
                raw.values.append(read / took / 1e6)
                shutil.rmtree(target)
                pull = peers.Mbsync(stand.folder / "mbsync")
                pull.prepare([user], port)
                mbsync.values.append(octets / pull.run(chosen.mails) / 1e6)
                shutil.rmtree(pull.folder)
            connection = stand.watch(user)
            before = stand.processor_time()
            took = stand.turn([connection], chosen.mails)
            used.append(spent(before, stand.processor_time()))
            walls.append(took)
            ours.values.append(octets / took / 1e6)
            shutil.rmtree(stand.dovecot.home(user), ignore_errors=True)
    series = [raw, mbsync, ours] if others else [ours]
    lines = [
        "# Large mails: from the mail server to the handler's queue",
        "",
        f"{chosen.mails} mails of 1 to 10 MB ({octets / 1e9:.2f} GB) in one mailbox, IMAP in plain "
        f"text on loopback, {chosen.turns} turns, each contender once a turn. {report.machine()} "
        f"{peers.versions()}. Posthouse: from the moment at which the connection is due to the "
        "last event on the Redis stream.",
        "",
        *report.table(series, "MB/s", OURS),
        "",
    ]
    if others:
        lines += report.verdicts(
            [
                ("times mbsync with fsync", ours.median / mbsync.median, "≥", 1),
                ("or times the reader that writes files", ours.median / raw.median, "≥", 0.35),
            ]
        )
        lines += ["", "![the same as a plot](large.svg)", ""]
    lines += ["Where Posthouse's time goes:", "", *report.parts(used, walls, chosen.mails)]
    drawing = report.plot(f"{chosen.mails} mails of 1 to 10 MB", "MB/s", series)
    report.write("large", lines, {"large": drawing}, keep=others and not chosen.no_write)
    return 0
