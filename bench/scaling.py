"""Two fetcher processes against one, on the same mails.

`make bench NAME=scaling`. Corpus A lies in eight mailboxes, as a lease lets one fetcher into each.
On two cores the fetchers share them with everything else, so the processor time that each
configuration used is shown beside the rate.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence

from bench import report
from bench.corpora import small
from bench.report import Series
from bench.stand import Stand, spent

MAILBOXES = 8


def main(argv: Sequence[str]) -> int:
    parser = argparse.ArgumentParser(prog="bench scaling", description=__doc__)
    parser.add_argument("--turns", type=int, default=3)
    parser.add_argument("--mails", type=int, default=10_000)
    parser.add_argument("--no-write", action="store_true", help="only print")
    chosen = parser.parse_args(argv)
    series = [Series("Posthouse, one fetcher"), Series("Posthouse, two fetchers")]
    used: list[list[dict[str, float]]] = [[], []]
    walls: list[list[float]] = [[], []]
    each = chosen.mails // MAILBOXES
    with Stand() as stand:
        warm = stand.watch("warm-up")
        stand.dovecot.deliver("warm-up", small(600, seed=99))
        stand.turn([warm], 600)
        users = [f"s{number}" for number in range(MAILBOXES)]
        connections = [stand.watch(user) for user in users]
        for turn in range(chosen.turns):
            for number in (0, 1):
                for position, user in enumerate(users):
                    stand.dovecot.deliver(
                        user, small(each, seed=100 * turn + 10 * number + position)
                    )
                extra = stand.house.start("fetcher") if number else []
                if extra:  # has its sessions and connections open, as the other one has
                    stand.turn(connections, each * MAILBOXES)
                    for position, user in enumerate(users):
                        seed = 5000 + 100 * turn + position
                        stand.dovecot.deliver(user, small(each, seed=seed))
                before = stand.processor_time()
                took = stand.turn(connections, each * MAILBOXES)
                used[number].append(spent(before, stand.processor_time()))
                walls[number].append(took)
                series[number].values.append(each * MAILBOXES / took)
                for child in extra:
                    child.terminate()
                    child.wait()
                    stand.house.processes.remove(child)
    ratio = series[1].median / series[0].median
    lines = [
        "# Two fetchers against one",
        "",
        f"{each * MAILBOXES:,} mails of 8 KB in {MAILBOXES} mailboxes, due at once, "
        f"{chosen.turns} turns. {report.machine()}",
        "",
        *report.table(series, "mails/s", series[1].name),
        "",
        *report.verdicts([("two fetchers / one", ratio, "≥", 1.5)]),
        "",
        "![the same as a plot](scaling.svg)",
    ]
    for number, name in enumerate(("one", "two")):
        lines += ["", f"Processor time with {name}:", ""]
        lines += report.parts(used[number], walls[number], each * MAILBOXES)
    drawing = report.plot("Corpus A in eight mailboxes", "mails/s", series)
    report.write("scaling", lines, {"scaling": drawing}, keep=not chosen.no_write)
    return 0
