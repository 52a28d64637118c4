"""POP3 with mails left on the server: what a poll costs must not grow with the mailbox.

`make bench NAME=pop3`. Two mailboxes keep 1,000 and 50,000 mails that are known already. Measured
are octets on the wire and time, of a poll with nothing new and of one with ten new mails, for
fetchmail (`keep uidl`, a whole run of the program), for Posthouse (the fetcher's run, from before
the login to after its ledger's last commit), and for a bare client that knows which mails are new
and writes nothing: what remains then is the server's own time, which grows with the mailbox.
"""

from __future__ import annotations

import argparse
import poplib
import socket
import statistics
import time
from collections.abc import Sequence

from bench import peers, report
from bench.corpora import small
from bench.distant import last_run
from bench.link import Link
from bench.report import Series
from bench.stand import Stand
from shared.storage import connections as stored

NEW = 10
BARE = "bare client"
SIZE = 1024


def main(argv: Sequence[str]) -> int:
    parser = argparse.ArgumentParser(prog="bench pop3", description=__doc__)
    parser.add_argument("--turns", type=int, default=9)
    parser.add_argument("--kept", type=int, nargs=2, default=[1000, 50_000])
    parser.add_argument("--only-posthouse", action="store_true", help="while tuning")
    parser.add_argument("--no-write", action="store_true", help="only print")
    chosen = parser.parse_args(argv)
    times: dict[tuple[str, str, int], Series] = {}
    octets: dict[tuple[str, str, int], Series] = {}

    def note(who: str, what: str, kept: int, seconds: float, carried: int) -> None:
        for kind, value in ((times, 1000 * seconds), (octets, float(carried))):
            series = kind.setdefault((who, what, kept), Series(f"{who}, {what}, {kept:,} kept"))
            series.values.append(value)

    contenders = ["Posthouse"] if chosen.only_posthouse else ["fetchmail", BARE, "Posthouse"]
    with Stand() as stand, Link(stand.dovecot.pop3_port) as link:
        for kept in chosen.kept:
            user = f"p{kept}"
            for start in range(0, kept, 10_000):
                count = min(10_000, kept - start)
                stand.dovecot.deliver(user, small(count, SIZE, seed=start))
            connection = stand.watch(user, mode="pop3", port=link.port)
            with stand.stack.database.transaction() as session:
                stored.start_from(session, connection, since=None, skip_existing=True)
            stand.stack.run_once(connection)  # all that is there is known now
            stand.stack.run_once(connection)
            slow = peers.Fetchmail(stand.folder / "fetchmail", protocol="pop3")
            if not chosen.only_posthouse:
                slow.prepare([user], link.port)
                remember(stand, slow, user)
            for turn in range(chosen.turns):
                for what, new in (("unchanged", 0), ("ten new", NEW)):
                    stand.rest()
                    if new:
                        stand.dovecot.deliver(user, small(new, SIZE, seed=kept + 1 + turn))
                    # The server remembers what the one before asked for: each comes first once.
                    for who in _rotated(contenders, turn):
                        link.reset()
                        if who == "fetchmail":
                            took = slow.run(new)
                        elif who == BARE:
                            took = bare(link.port, user, new)
                        elif new:
                            stand.turn([connection], new)
                            took = last_run(stand, connection)
                        else:
                            stand.stack.run_once(connection)
                            took = poll_time(stand, connection)
                        note(who, what, kept, took, link.octets)
    return _report(chosen, times, octets)


def _rotated(names: Sequence[str], by: int) -> list[str]:
    return [*names[by % len(names) :], *names[: by % len(names)]]


def poll_time(stand: Stand, connection: int) -> float:
    (row,) = stand.stack.query(
        "SELECT last_run_ms FROM connection_state WHERE connection_id = %s", connection
    )
    return max(1, int(row[0])) / 1000


def bare(port: int, user: str, new: int) -> float:
    """Seconds of a client that knows what to ask for: login, STAT, the last mail's UIDL, and the
    new mails, pipelined; what is left is the server's own time."""
    started = time.perf_counter()
    with (
        socket.create_connection(("127.0.0.1", port)) as session,
        session.makefile("rb") as answers,
    ):
        answers.readline()
        for command in (b"USER " + user.encode(), b"PASS " + peers.PASSWORD.encode(), b"STAT"):
            session.sendall(command + b"\r\n")
            answer = answers.readline()
        count = int(answer.split()[1])
        last = range(count - new, count + 1)
        asked = [b"UIDL %d" % number for number in last]
        asked += [b"RETR %d" % number for number in last[1:]]
        session.sendall(b"".join(command + b"\r\n" for command in [*asked, b"QUIT"]))
        answers.read()
    return time.perf_counter() - started


def remember(stand: Stand, slow: peers.Fetchmail, user: str) -> None:
    """Writes fetchmail's own record of known mails, as if it had fetched them all before."""
    box = poplib.POP3("127.0.0.1", stand.dovecot.pop3_port)
    box.user(user)
    box.pass_(peers.PASSWORD)
    known = [line.split()[1].decode() for line in box.uidl()[1]]
    box.quit()
    text = "".join(f"{user}@127.0.0.1 {uidl}\n" for uidl in known)
    record = slow.folder / ".fetchids"
    record.write_text(text)
    record.chmod(0o600)


def _report(
    chosen: argparse.Namespace,
    times: dict[tuple[str, str, int], Series],
    octets: dict[tuple[str, str, int], Series],
) -> int:
    small_box, large_box = chosen.kept
    lines = [
        "# POP3 with mails left on the server",
        "",
        f"Mails of {SIZE:,} octets, plain text on loopback, {chosen.turns} turns. "
        f"{report.machine()} {peers.versions()}.",
        "",
        "| who | poll | kept | ms, median | least – most | octets on the wire |",
        "|---|---|---|---|---|---|",
    ]
    for (who, what, kept), series in sorted(times.items()):
        carried = statistics.median(octets[(who, what, kept)].values)
        lines.append(
            f"| {who} | {what} | {kept:,} | {report.figure(series.median)} | {series.spread} "
            f"| {carried:,.0f} |"
        )

    def ms(who: str, what: str, kept: int) -> float:
        return times[(who, what, kept)].median

    unchanged = octets[("Posthouse", "unchanged", large_box)].median
    ten = octets[("Posthouse", "ten new", large_box)].median - NEW * SIZE
    rows = [
        (f"unchanged, {large_box:,} kept: octets", unchanged, "≤", 1024),
        (f"ten new, {large_box:,} kept: octets but the mails'", ten, "≤", 20_480),
    ]
    for what in ("unchanged", "ten new"):
        ratio = ms("Posthouse", what, large_box) / ms("Posthouse", what, small_box)
        rows.append((f"{what}: time at {large_box:,} / at {small_box:,}", ratio, "≤", 2))
        if ("fetchmail", what, large_box) in times:
            rows.append(
                (
                    f"{what}, {large_box:,} kept: time / the bare client's",
                    ms("Posthouse", what, large_box) / ms(BARE, what, large_box),
                    "≤",
                    2,
                )
            )
            faster = ms("fetchmail", what, large_box) / ms("Posthouse", what, large_box)
            rows.append(
                (f"{what}, {large_box:,} kept: times faster than fetchmail", faster, "≥", 5)
            )
    lines += ["", *report.verdicts(rows), "", "![the times as a plot](pop3.svg)", ""]
    drawing = report.plot("POP3, mails left on the server", "ms a poll", list(times.values()))
    keep = not chosen.only_posthouse and not chosen.no_write
    report.write("pop3", lines, {"pop3": drawing}, keep=keep)
    return 0
