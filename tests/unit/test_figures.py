"""What the documents say of cost and speed is what the reports of `make bench` measured."""

from __future__ import annotations

import re
from decimal import Decimal
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
REPORTS = ROOT / "bench" / "results"
_NUMBER = re.compile(r"\d[\d,]*(?:\.\d+)?")

QUIET = "a machine of its own"
MICROS = "Postgres, µs a connection"
#: (document, sentence with the number as a group, report, row, column). The number is the cell's
#: first one, or the one of that position, rounded as the sentence has it.
FIGURES = [
    ("scale", r"processor time grows from ([\d.]+)", "simulate", "Scheduler, cores", "1,000"),
    ("scale", r"to ([\d.]+) of a core", "simulate", "Scheduler, cores", "100,000"),
    ("scale", r"its memory from (\d+)", "simulate", "Scheduler, memory", "1,000"),
    ("scale", r"its memory from \d+ to (\d+) MiB", "simulate", "Scheduler, memory", "100,000"),
    ("scale", r"([\d.]+) s late at the 99th", "simulate", "Scheduling lag", "100,000#2"),
    ("scale", r"in Postgres: ([\d.]+) MiB", "simulate", "`connection_state`", "100,000"),
    ("scale", r"mails took ([\d.]+) octets each", "known", "packed, octets a mail", ""),
    ("scale", r"there, ([\d.]+) octets each", "known", "packed, octets a mail", ""),
    ("scale", r"`known_content` \((\d+) octets", "known", "a row each, octets", ""),
    ("scale", r"known ones ([\d.]+) s of", "known", "recognising 5,000", ""),
    ("scale", r"Packing them took ([\d.]+) s", "known", "packing them all", ""),
    ("scale", r"once a day ([\d.]+)\.", "known", "looking through them", ""),
    ("scale", r"slowest took (\d+) ms", "search", "common word, one connection", "median ms"),
    ("scale", r"which it takes (\d+) MB", "sessions", "polled 5,0", "resident, MB"),
    ("scale", r"one Dovecot it took (\d+) MB", "sessions", "polled 10,000", "resident, MB"),
    ("scale", r"and (\d+) where it listened", "sessions", "listening", "resident, MB"),
    ("operations", r"TLS session takes (\d+) kB", "sessions", "polled 10,000", "kB each"),
    ("operations", r"one with push (\d+) \(", "sessions", "listening", "kB each"),
    ("operations", r"scheduler \| (\d+) MiB", "simulate", "Scheduler, memory", "1,000"),
    ("operations", r"(\d+) with 100,000 \|", "simulate", "Scheduler, memory", "100,000"),
    ("operations", r"([\d.]+) core with 1,000", "simulate", "Scheduler, cores", "1,000"),
    ("operations", r"1,000, ([\d.]+) with 100", "simulate", "Scheduler, cores", "100,000"),
    ("operations", r"fetcher \| (\d+) MiB", "simulate", "Fetcher / decryptor", "1,000"),
    ("operations", r"decryptor \| (\d+) to", "simulate", "Fetcher / decryptor", "1,000#2"),
    ("operations", r"\d+ to (\d+) MiB \|", "simulate", "Fetcher / decryptor", "100,000#2"),
    ("operations", r"([\d.]+) MB resident while", "memory", "highest during", "measured"),
    ("operations", r"(\d+) µs for a mail of a", "fetch", "fetcher", "µs a mail"),
    ("operations", r"(\d+) µs for a plain mail", "fetch", "decryptor", "µs a mail"),
    ("operations", r"included \(([\d.]+) MiB/s", "simulate", "WAL", "10,000"),
    ("scale", r"claimed ([\d,]+) a second", "simulate", "Sent to be", QUIET),
    (
        "scale",
        r"([\d.]+) s late at the 99th percentile, for",
        "simulate",
        "Lag of these",
        f"{QUIET}#2",
    ),
    ("scale", r"Postgres took ([\d.]+) of a core", "simulate", "All of Postgres", QUIET),
    ("scale", r"the scheduler ([\d.]+) \(`bench", "simulate", "All of the sched", QUIET),
    ("scale", r"cost Postgres (\d+) µs more", "hot_state", "begun and ended", MICROS),
    ("scale", r"need ([\d.]+) cores of it", "hot_state", "all", "cores for 16,700 a second"),
    ("scale", r"log was (\d+) kB a conn", "simulate", "Claims in the log", "small Postgres"),
    ("scale", r"GB` ([\d.]+) kB: set", "simulate", "Claims in the log", "large Postgres"),
    ("scale", r"costs Redis (\d+) µs", "fetch", "Redis", "µs a mail"),
    (
        "operations",
        r"([\d.]+)\s+ms from acceptance to event",
        "push",
        "hibernates: p50, ms",
        "measured",
    ),
]

#: (document, sentence, report, sentence there): where a report says it outside its tables.
SAID = [
    ("operations", r"([\d.]+) ms for an idle poll", "simulate", r"fetcher ([\d.]+) ms of proc"),
    ("operations", r"backlog, ([\d.]+) ms where", "simulate", r"4 kB costs it ([\d.]+) ms"),
    ("operations", r"([\d.]+) ms where they come few", "simulate", r"the decryptor ([\d.]+) ms"),
    ("operations", r"its indexes: ([\d.]+) and", "search", r"table ([\d.]+) GB"),
    ("operations", r"and ([\d.]+) GB for 20", "search", r"indexes ([\d.]+) GB"),
]


def cells(report: str) -> dict[str, dict[str, str]]:
    """Every table of a report: row label → column label → cell. Of equal rows the first counts."""
    found: dict[str, dict[str, str]] = {}
    header: list[str] | None = None
    for line in (REPORTS / f"{report}.md").read_text(encoding="utf-8").splitlines():
        if not line.startswith("|"):
            header = None
            continue
        row = [cell.strip() for cell in line.strip("|").split("|")]
        if header is None:
            header = row
        elif not set("".join(row)) <= set("-: "):
            found.setdefault(row[0], dict(zip(header[1:], row[1:], strict=False)))
    return found


def test_the_reports_are_read() -> None:
    assert cells("simulate")["Scheduler, cores"]["1,000"]
    assert cells("known")["packed, octets a mail, with index"][""]


@pytest.mark.promise("T4")
@pytest.mark.parametrize(
    ("document", "sentence", "report", "row", "column"),
    FIGURES,
    ids=[
        f"{document}-{row[:20]}-{number}" for number, (document, _, _, row, _) in enumerate(FIGURES)
    ],
)
def test_a_figure_is_its_reports(
    document: str, sentence: str, report: str, row: str, column: str
) -> None:
    text = " ".join((ROOT / "docs" / f"{document}.md").read_text(encoding="utf-8").split())
    said = re.search(sentence, text)
    assert said, f"docs/{document}.md has no sentence like {sentence!r}"
    table = cells(report)
    (label,) = [name for name in table if name.startswith(row)]
    name, _, position = column.partition("#")
    measured = _NUMBER.findall(table[label][name])[int(position or 1) - 1].replace(",", "")
    number = Decimal(said[1].replace(",", ""))
    assert number == Decimal(measured).quantize(number), f"{label}: {table[label][name]}"


@pytest.mark.promise("T4")
@pytest.mark.parametrize(("document", "sentence", "report", "there"), SAID)
def test_a_figure_is_said_by_its_report(
    document: str, sentence: str, report: str, there: str
) -> None:
    text, source = (
        " ".join(path.read_text(encoding="utf-8").split())
        for path in (ROOT / "docs" / f"{document}.md", REPORTS / f"{report}.md")
    )
    said, measured = re.search(sentence, text), re.search(there, source)
    assert said, f"docs/{document}.md has no sentence like {sentence!r}"
    assert measured, f"{report}.md has no sentence like {there!r}"
    assert said[1] == measured[1]
