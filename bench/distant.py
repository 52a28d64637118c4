"""A mail server that is 10 ms away, each way: round trips decide.

`make bench NAME=distant`. A proxy delays every octet and counts how often a client has to wait.
IMAP: mbsync, fetchmail and Posthouse; POP3: fetchmail and Posthouse. Posthouse is given as what
the fetcher's run takes (with the session that it keeps open between polls, as in every poll but
the first, and with a fresh login), and from when the connection is due to the last event.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence

from bench import peers, report
from bench.corpora import SMALL, small
from bench.link import Link
from bench.report import Series
from bench.stand import Stand

DELAY = 0.010


class Contender:
    """Rates and round trips a mail."""

    def __init__(self, name: str) -> None:
        self.rates = Series(name)
        self.trips = Series(name)

    def add(self, mails: int, seconds: float, link: Link) -> None:
        self.rates.values.append(mails / seconds)
        self.trips.values.append(link.round_trips / mails)


def main(argv: Sequence[str]) -> int:
    parser = argparse.ArgumentParser(prog="bench distant", description=__doc__)
    parser.add_argument("--turns", type=int, default=3)
    parser.add_argument("--mails", type=int, default=500)
    parser.add_argument("--fetchmail-mails", type=int, default=60, help="it is slow: fewer")
    parser.add_argument("--only-posthouse", action="store_true", help="while tuning")
    parser.add_argument("--no-write", action="store_true", help="only print")
    chosen = parser.parse_args(argv)
    mbsync, fetchmail = Contender("mbsync"), Contender("fetchmail")
    kept, fresh = Contender("Posthouse, kept session"), Contender("Posthouse, fresh login")
    whole = Contender("Posthouse, due to event")
    pop_fetchmail, pop = Contender("fetchmail, POP3"), Contender("Posthouse, POP3")
    pop_whole = Contender("Posthouse, POP3, due to event")
    with (
        Stand() as stand,
        Link(stand.dovecot.imap_port, DELAY) as imap,
        Link(stand.dovecot.pop3_port, DELAY) as pop3,
    ):
        few = min(chosen.fetchmail_mails, chosen.mails)
        for turn in range(chosen.turns):
            if not chosen.only_posthouse:
                stand.dovecot.deliver(f"m{turn}", small(chosen.mails, seed=turn))
                pull = peers.Mbsync(stand.folder / "mbsync")
                pull.prepare([f"m{turn}"], imap.port)
                imap.reset()
                mbsync.add(chosen.mails, pull.run(chosen.mails), imap)
                for link, who, protocol in (
                    (imap, fetchmail, "imap"),
                    (pop3, pop_fetchmail, "pop3"),
                ):
                    stand.dovecot.deliver(f"{protocol}{turn}", small(few, seed=turn))
                    slow = peers.Fetchmail(stand.folder / "fetchmail", protocol=protocol)
                    slow.prepare([f"{protocol}{turn}"], link.port)
                    link.reset()
                    who.add(few, slow.run(few), link)
            for mode, link, first, second in (
                ("imap", imap, fresh, kept),
                ("pop3", pop3, pop, pop),
            ):
                user = f"{mode}-ours{turn}"
                stand.dovecot.deliver(user, small(chosen.mails, seed=turn))
                connection = stand.watch(user, mode=mode, port=link.port)
                for who in (first, second) if mode == "imap" else (first,):
                    link.reset()
                    took = stand.turn([connection], chosen.mails)
                    if who is kept or mode == "pop3":
                        (whole if mode == "imap" else pop_whole).add(chosen.mails, took, link)
                    who.add(chosen.mails, last_run(stand, connection), link)
                    stand.dovecot.deliver(user, small(chosen.mails, seed=turn + 1000))
    return _report(chosen, [mbsync, fetchmail, fresh, kept, whole], [pop_fetchmail, pop, pop_whole])


def last_run(stand: Stand, connection: int) -> float:
    """Seconds that the fetcher's last run of a connection took, login and settling included."""
    (row,) = stand.stack.query(
        "SELECT duration_ms FROM fetch_run WHERE connection_id = %s ORDER BY id DESC LIMIT 1",
        connection,
    )
    return max(1, int(row[0])) / 1000


def _report(chosen: argparse.Namespace, imap: Sequence[Contender], pop: Sequence[Contender]) -> int:
    there = [who for who in (*imap, *pop) if who.rates.values]
    lines = [
        "# A mail server 10 ms away, each way",
        "",
        f"{chosen.mails} mails of {SMALL:,} octets, plain text, {chosen.turns} turns, each "
        f"contender once a turn; fetchmail had {min(chosen.fetchmail_mails, chosen.mails)} mails. "
        f"{report.machine()} {peers.versions()}.",
        "",
        "| who | mails/s, median | least – most | round trips a mail |",
        "|---|---|---|---|",
    ]
    for who in there:
        lines.append(
            f"| {who.rates.name} | {report.figure(who.rates.median)} | {who.rates.spread} "
            f"| {report.figure(who.trips.median)} |"
        )
    by_name = {who.rates.name: who for who in there}
    kept, pop3 = by_name["Posthouse, kept session"], by_name["Posthouse, POP3"]
    rows = [
        ("IMAP: round trips a mail", kept.trips.median, "≤", 0.1),
        ("POP3: round trips a mail", pop3.trips.median, "≤", 0.2),
    ]
    if "mbsync" in by_name:
        ratio = kept.rates.median / by_name["mbsync"].rates.median
        rows.insert(0, ("IMAP: times mbsync's rate", ratio, "≥", 1))
    lines += ["", *report.verdicts(rows), "", "![the same as a plot](distant.svg)", ""]
    drawing = report.plot("500 mails, 10 ms each way", "mails/s", [who.rates for who in there])
    keep = not chosen.only_posthouse and not chosen.no_write
    report.write("distant", lines, {"distant": drawing}, keep=keep)
    return 0
