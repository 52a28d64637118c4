"""What do the facts of a mail cost? Small and large mails, with facts and without, in turns.

`make bench NAME=facts`. An installation for each turn, so that no queue of an earlier one is in the
way, and all processor time that `fetch` counts. In every other one decryptors read no facts, which
no setting does: its events say nothing of the mail but its header fields.
"""

from __future__ import annotations

import argparse
import statistics
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Final, NamedTuple

from bench import report
from bench.corpora import large, small
from bench.stand import Stand, spent

#: Whose processor time is a mail's.
PARTS = ("fetcher", "decryptor", "Postgres", "Redis", "Dovecot")
_WITHOUT = Path(__file__).parent / "forkserver_without_facts.py"
#: Both sides, by name.
_STANDS: Final[dict[str, Callable[[], Stand]]] = {
    "with facts": Stand,
    "without": partial(Stand, forkserver=_WITHOUT),
}


class Question(NamedTuple):
    """`corpus` gives so many mails of a seed; `most` is how much more facts may cost."""

    name: str
    mails: int
    corpus: Callable[..., Iterator[bytes]]
    most: float


def main(argv: Sequence[str]) -> int:
    parser = argparse.ArgumentParser(prog="bench facts", description=__doc__)
    parser.add_argument("--turns", type=int, default=4)
    parser.add_argument("--mails", type=int, default=10_000, help="small ones")
    parser.add_argument("--large", type=int, default=300, help="mails of 1 to 10 MB")
    parser.add_argument("--no-write", action="store_true", help="only print")
    chosen = parser.parse_args(argv)
    questions = [
        Question(f"{chosen.mails:,} mails of 8 kB", chosen.mails, small, 1.15),
        Question(f"{chosen.large:,} mails of 1 to 10 MB", chosen.large, large, 1.20),
    ]
    lines = [
        "# What the facts of a mail cost",
        "",
        "Processor time in µs a mail, with and without facts in turns, medians of "
        f"{chosen.turns}. {report.machine()}",
    ]
    targets = []
    for question in questions:
        used: dict[str, list[dict[str, float]]] = {name: [] for name in _STANDS}
        for turn in range(chosen.turns):
            for name in list(_STANDS) if turn % 2 == 0 else reversed(_STANDS):
                with _STANDS[name]() as stand:
                    _turn(stand, "warm-up", small(600, seed=99), 600)
                    mails = question.corpus(question.mails, seed=turn)
                    found = _turn(stand, "mailbox", mails, question.mails)
                print(question.name, name, {k: round(v) for k, v in found.items()}, flush=True)
                used[name].append(found)
        lines += ["", f"## {question.name}", "", *_table(used)]
        ratio = _median(used["with facts"], "all") / _median(used["without"], "all")
        targets.append((f"times without, {question.name}", ratio, "≤", question.most))
    lines += ["", *report.verdicts(targets)]
    report.write("facts", lines, {}, keep=not chosen.no_write)
    return 0


def _turn(stand: Stand, user: str, mails: Iterator[bytes], count: int) -> dict[str, float]:
    """Processor time of each part in µs a mail."""
    stand.dovecot.deliver(user, mails)
    connection = stand.watch(user)
    before = stand.processor_time()
    stand.turn([connection], count, seconds=600)
    used = spent(before, stand.processor_time())
    costs = {part: 1e6 * used[part] / count for part in PARTS}
    return {**costs, "all": sum(costs.values())}


def _median(turns: Sequence[dict[str, float]], what: str) -> float:
    return statistics.median(turn[what] for turn in turns)


def _table(used: dict[str, list[dict[str, float]]]) -> Iterator[str]:
    yield "| code | " + " | ".join(PARTS) + " | all, µs a mail |"
    yield "|---" * (len(PARTS) + 2) + "|"
    for name, turns in used.items():
        figures = [report.figure(_median(turns, what)) for what in (*PARTS, "all")]
        yield f"| {name} | " + " | ".join(figures) + " |"
