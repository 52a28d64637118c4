"""Where is my mail: how quick a search is with 20 million mails in the ledger over 30 days.

    python -m bench search [--mails 20000000] [--connections 10000] [--rounds 20]

A Postgres of its own is filled by SQL (some 25 GB, half an hour), the real application answers over
HTTP as a logged-in browser asks, each search with other words and addresses at each request.
Written to `bench/results/search.md`, with the plan of every statement, as Postgres ran it.
"""

from __future__ import annotations

import argparse
import platform
import random
import re
import statistics
import tempfile
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final
from urllib.parse import quote

import httpx
import psycopg
from psycopg import sql

from bench.pages import (
    LIMIT_MS,
    admin,
    create_past_partitions,
    explained,
    fill_connections,
    log_in,
    plans_of,
)
from shared.mail.search_terms import numbers, terms_of, terms_sought
from shared.mail.summary import MailHeaders
from shared.storage import retention
from shared.storage.migrate import migrate
from tests.servers.postgres import PostgresServer

RESULT = Path(__file__).parent / "results" / "search.md"
_WORDS: Final = 30_000
_SENDERS: Final = 200_000
#: A word of the vocabulary is in about this share of the mails: five words each, the first ones
#: often (the cube of a random number).
_COMMON, _MIDDLE, _RARE = 3, 3_000, 29_000
_PLAN_LINES: Final = 60
_MAIL: Final = re.compile(r'href="/mails/([0-9a-f-]{36})"')


@dataclass(frozen=True, slots=True)
class Question:
    """One kind of search: `path` makes another one at each call. `promised`: under the limit."""

    name: str
    path: Callable[[], str]
    promised: bool = True


def main(argv: Sequence[str] = ()) -> int:
    parser = argparse.ArgumentParser(prog="bench search", description=__doc__)
    parser.add_argument("--mails", type=int, default=20_000_000)
    parser.add_argument("--connections", type=int, default=10_000)
    parser.add_argument("--rounds", type=int, default=20)
    parser.add_argument("--no-write", action="store_true", help="only print")
    wanted = parser.parse_args(argv)
    with PostgresServer() as server, tempfile.TemporaryDirectory() as folder:
        url = server.create_database()
        migrate(url)
        began = time.monotonic()
        fill(url, wanted.connections, wanted.mails)
        sizes = size_of(url)
        print(f"filled in {time.monotonic() - began:.0f} s, {sizes}", flush=True)
        asked = questions(url, wanted.connections, wanted.mails)
        measured: dict[str, dict[str, float]] = {}
        with admin(url, folder) as base, httpx.Client(base_url=base, timeout=60) as browser:
            log_in(browser)
            for question in asked:
                measured[question.name] = measure(browser, question, wanted.rounds)
                print(question.name, measured[question.name], flush=True)
        with admin(explained(url), folder) as base, httpx.Client(base_url=base) as browser:
            browser.timeout = httpx.Timeout(120)
            log_in(browser)
            plans = {one.name: plans_of(server, browser, one.path()) for one in asked}
    report = written(wanted, sizes, measured, plans)
    if wanted.no_write:
        print(report.partition("## Plans")[0])
    else:
        RESULT.write_text(report, encoding="utf-8")
    kept = [measured[one.name]["median"] < LIMIT_MS for one in asked if one.promised]
    return 0 if all(kept) else 1


def questions(url: str, connections: int, mails: int) -> list[Question]:
    chance = random.Random(7)
    with psycopg.connect(url) as session:
        rows = session.execute(
            "SELECT message_id, subject, connection_id, id FROM message"
            " TABLESAMPLE system (0.01) LIMIT 2000"
        ).fetchall()
        for _, subject, _, identifier in rows:
            session.execute(
                "UPDATE message SET terms = terms || %s::int[] WHERE id = %s",
                (numbers(terms_sought(subject.split()[1])), identifier),
            )
    chance.shuffle(rows)

    def one() -> tuple[Any, ...]:
        return chance.choice(rows)

    def word(around: int) -> str:
        return f"w{around + chance.randrange(around // 10 + 1)}x"

    def sender() -> str:
        return f"person-{chance.randrange(_SENDERS)}@customer{chance.randrange(400)}.example"

    def q(text: str, **more: object) -> str:
        return f"/mails?q={quote(text)}" + "".join(f"&{n}={v}" for n, v in more.items())

    def known_sender() -> str:
        number = chance.randrange(_SENDERS)
        return f"person-{number}@customer{number % 400}.example"

    return [
        Question("newest", lambda: "/mails"),
        Question("message-id", lambda: q(one()[0])),
        Question("address of a sender", lambda: q(known_sender())),
        Question("address that no mail has", lambda: q(sender() + ".org"), promised=False),
        Question("address of a recipient", lambda: q(f"orders-{one()[2]}@branch.example")),
        Question("domain of senders", lambda: q(f"@customer{chance.randrange(400)}.example")),
        Question("number in the subject", lambda: q(one()[1].split()[1])),
        Question("common word", lambda: q(word(_COMMON))),
        Question("middling word", lambda: q(word(_MIDDLE))),
        Question("rare word", lambda: q(word(_RARE))),
        Question("two middling words", lambda: q(f"{word(_MIDDLE)} {word(_MIDDLE)}"), False),
        Question("whole subject", lambda: q(one()[1])),
        Question("common word, one connection", lambda: q(word(_COMMON), connection=one()[2])),
        Question("middling word, one connection", lambda: q(word(300), connection=one()[2])),
        Question("one connection", lambda: f"/mails?connection={one()[2]}"),
        Question("part of a word", lambda: q(f"erson-{chance.randrange(99)}"), promised=False),
    ]


def measure(browser: httpx.Client, question: Question, rounds: int) -> dict[str, float]:
    """Milliseconds from the request to the last octet of the page, and how many mails are on it."""
    times, rows = [], []
    for _ in range(rounds + 3):
        path = question.path()
        began = time.perf_counter()
        answer = browser.get(path)
        times.append((time.perf_counter() - began) * 1000)
        assert answer.status_code == 200, (path, answer.status_code, answer.text[:500])
        rows.append(len(set(_MAIL.findall(answer.text))))
    warm = sorted(times[3:])
    return {
        "median": statistics.median(warm),
        "p95": warm[int(len(warm) * 0.95)],
        "mails": statistics.mean(rows),
    }


def fill(url: str, connections: int, mails: int) -> None:
    """A month of mails; indexes are made afterwards, and nothing is written to the log (WAL)."""
    now = datetime.now(UTC)
    with psycopg.connect(url, autocommit=True) as session:
        create_past_partitions(session)
        days = [one for one in retention.partitions(session) if one.lower < now]
        fill_connections(session, connections)
        _vocabulary(session, connections)
        indexes = session.execute(
            "SELECT indexname, indexdef FROM pg_indexes"
            " WHERE tablename = 'message' AND indexname <> 'message_pkey'"
        ).fetchall()
        for name, _ in indexes:
            session.execute(sql.SQL("DROP INDEX {}").format(sql.Identifier(name)))
    each = mails // len(days)
    with ThreadPoolExecutor(2) as workers:
        for _ in workers.map(lambda day: _fill_day(url, day, now, each, connections), days):
            pass
    print("mails and deliveries are in", flush=True)
    with psycopg.connect(url, autocommit=True) as session:
        session.execute("SET maintenance_work_mem = '1GB'")
        for _, definition in indexes:
            session.execute(definition.replace(" ON ONLY ", " ON ").encode())
            print(definition[:70], flush=True)
        session.execute("ANALYZE")
        for day in days[-3:]:
            session.execute(sql.SQL("VACUUM {}").format(sql.Identifier(day.name)))


def _vocabulary(session: psycopg.Connection[Any], connections: int) -> None:
    session.execute("CREATE UNLOGGED TABLE bench_word (i int PRIMARY KEY, word text, term int)")
    session.execute(
        "CREATE UNLOGGED TABLE bench_sender"
        " (i int PRIMARY KEY, address text, name text, terms int[])"
    )
    session.execute("CREATE UNLOGGED TABLE bench_recipient (i int PRIMARY KEY, term int)")
    with session.cursor() as cursor:
        with cursor.copy("COPY bench_word FROM STDIN") as copy:
            for i in range(_WORDS):
                copy.write_row((i, f"w{i}x", numbers(terms_sought(f"w{i}x"))[0]))
        with cursor.copy("COPY bench_sender FROM STDIN") as copy:
            for i in range(_SENDERS):
                address, name = f"person-{i}@customer{i % 400}.example", f"Person {i}"
                of_sender = numbers(terms_of(MailHeaders(sender=address, sender_name=name)))
                copy.write_row((i, address, name, of_sender))
        with cursor.copy("COPY bench_recipient FROM STDIN") as copy:
            for i in range(1, connections + 1):
                copy.write_row((i, numbers(terms_sought(f"orders-{i}@branch.example"))[0]))


#: Postgres has no CRC-32, so the number in a subject has a stand-in for its term; those that are
#: looked for get their own.
_DAY: Final = """
INSERT INTO {partition} (id, connection_id, folder, uid_validity, native_key, sequence, size,
    sha256, raw_key, raw_offset, message_id, sender, sender_name, recipients, cc, subject, sent_at,
    arrived_at, downloaded_at, settled_at, opened_at, published_at, security, terms)
SELECT id, connection, '', 1, n::text, n, 8192, sha, 'raw/2026/11/29/0123456789abcdef',
       4096 * mod(n, 100), '<' || replace(id::text, '-', '') || '@mail.example.org>', s.address,
       s.name, ARRAY['orders-' || connection || '@branch.example'], ARRAY[]::text[],
       'Order ' || n || ' ' || w0.word || ' ' || w1.word || ' ' || w2.word || ' ' || w3.word
       || ' ' || w4.word,
       at, at, at, at, at, at, '{security}',
       s.terms || ARRAY[{order}::int, hashtext(n::text), r.term, w0.term, w1.term, w2.term,
                        w3.term, w4.term]
FROM (
    SELECT n, at, '\\x00'::bytea AS sha,
           (mod(n * 7919, {connections}) + 1)::int AS connection,
           (lpad(to_hex((extract(epoch FROM at) * 1000)::bigint), 12, '0') || '7'
            || lpad(to_hex(mod(n, 4096)), 3, '0') || '8'
            || substr(md5(n::text), 1, 15))::uuid AS id,
           mod(n * 104729, {senders})::int AS sender,
           floor(random() ^ 3 * {words})::int AS a, floor(random() ^ 3 * {words})::int AS b,
           floor(random() ^ 3 * {words})::int AS c, floor(random() ^ 3 * {words})::int AS d,
           floor(random() * {words})::int AS e
    FROM (SELECT n, timestamptz '{lower}' + (timestamptz '{upper}' - timestamptz '{lower}')
                 * ((n - {first})::float8 / {count}) AS at
          FROM generate_series({first}::bigint, {first} + {count} - 1) AS n) AS numbered
) AS mail
JOIN bench_sender s ON s.i = sender
JOIN bench_recipient r ON r.i = connection
JOIN bench_word w0 ON w0.i = a
JOIN bench_word w1 ON w1.i = b
JOIN bench_word w2 ON w2.i = c
JOIN bench_word w3 ON w3.i = d
JOIN bench_word w4 ON w4.i = e
"""


def _fill_day(
    url: str, day: retention.Partition, now: datetime, count: int, connections: int
) -> None:
    first = int(day.lower.timestamp()) // 86400 * count
    with psycopg.connect(url, autocommit=True) as session:
        session.execute("SET work_mem = '400MB'")
        for parent in ("message", "delivery"):
            name = sql.Identifier(day.name.replace("message", parent))
            session.execute(sql.SQL("ALTER TABLE {} SET UNLOGGED").format(name))
        statement = _DAY.format(
            partition=day.name,
            senders=_SENDERS,
            words=_WORDS,
            security='{"encrypted": false, "status": "none", "signature": "none"}',
            lower=day.lower.isoformat(),
            upper=min(day.upper, now).isoformat(),
            first=first,
            count=count,
            connections=connections,
            order=numbers(terms_sought("order"))[0],
        )
        session.execute(statement.encode())
        session.execute(
            sql.SQL(
                "INSERT INTO {} (message_id, handler_id, published_at)"
                " SELECT id, 1, published_at FROM {} ORDER BY id"
            ).format(
                sql.Identifier(day.name.replace("message", "delivery")), sql.Identifier(day.name)
            )
        )
    print(day.name, count, flush=True)


def size_of(url: str) -> str:
    with psycopg.connect(url) as session:
        row = session.execute(
            "SELECT count(*), sum(pg_table_size(c.oid)), sum(pg_indexes_size(c.oid))"
            " FROM pg_inherits JOIN pg_class c ON c.oid = inhrelid"
            " WHERE inhparent = 'message'::regclass"
        ).fetchone()
        terms = session.execute(
            "SELECT sum(pg_relation_size(inhrelid)) FROM pg_inherits"
            " WHERE inhparent = 'message_terms'::regclass"
        ).fetchone()
        mails = session.execute("SELECT count(*) FROM message").fetchone()
    assert row and terms and mails
    table, indexes, words = (float(number) / 1e9 for number in (*row[1:], *terms))
    return (
        f"{mails[0]:,} mails in {row[0]} partitions: table {table:.1f} GB, indexes "
        f"{indexes:.1f} GB, of which words and addresses {words:.2f} GB "
        f"({words * 1e9 / mails[0]:.0f} octets a mail)"
    )


def written(
    wanted: argparse.Namespace,
    sizes: str,
    measured: dict[str, dict[str, float]],
    plans: dict[str, str],
) -> str:
    lines = [
        "# Where is my mail, with millions of them",
        "",
        f"{sizes}; {wanted.connections:,} connections. {wanted.rounds} requests a search, each "
        f"with other words, one after the other. {platform.machine()}, Python "
        f"{platform.python_version()}, {datetime.now(UTC):%Y-%m-%d}. The promise: every median "
        f"under {LIMIT_MS:.0f} ms, but for parts of words, and words that no mail has together, "
        "which are looked for as a part.",
        "",
        "| search | median ms | 95 of 100 under | mails on the page |",
        "|---|---:|---:|---:|",
    ]
    lines += [
        f"| {name} | {m['median']:.0f} | {m['p95']:.0f} | {m['mails']:.0f} |"
        for name, m in measured.items()
    ]
    lines += ["", "## Plans", "", "Of statements that took a millisecond or more.", ""]
    for name, plan in plans.items():
        lines += [f"### {name}", "", "```", *_beginning(plan or "(none)"), "```", ""]
    return "\n".join(lines)


def _beginning(plan: str) -> list[str]:
    """All partitions' plans are alike: the first ones are enough."""
    lines = plan.splitlines()
    if len(lines) <= _PLAN_LINES:
        return lines
    return [*lines[:_PLAN_LINES], f"(and {len(lines) - _PLAN_LINES} lines more)"]


if __name__ == "__main__":
    import sys

    raise SystemExit(main(sys.argv[1:]))
