"""A service's role may do in Postgres what its statements do, and nothing else."""

from __future__ import annotations

import re
from collections.abc import Callable

import psycopg
import pytest

from tests.rig.sql_of_services import locks_of, rights_for, statements_of
from tests.rig.stack import Stack

pytestmark = pytest.mark.promise("I7")

WORKERS = ("scheduler", "fetcher", "decryptor", "forwarder")
#: What a mail says, as the ledger keeps it.
SAID = {
    "sender",
    "sender_name",
    "recipients",
    "recipient_names",
    "cc",
    "cc_names",
    "subject",
    "findings",
    "facts",
    "security",
    "labels",
    "provider_thread",
}
#: Every kind of right counts, on a whole table or on some of its columns.
GRANTED = """
SELECT c.relname, v.verb FROM pg_class AS c, unnest(ARRAY['SELECT', 'INSERT', 'UPDATE', 'DELETE'])
    AS v(verb)
WHERE c.relkind IN ('r', 'p') AND c.relnamespace = current_schema()::regnamespace
  AND CASE v.verb WHEN 'DELETE' THEN has_table_privilege(c.oid, 'DELETE')
      ELSE has_any_column_privilege(c.oid, v.verb) END
"""
#: For a statement of another service that is in the same class, and never comes here.
NEVER_ASKED = {
    "scheduler": {("authorisation", "INSERT"), ("oauth_flow", "INSERT"), ("oauth_flow", "SELECT")},
    "fetcher": {
        ("authorisation", "INSERT"),
        *(("oauth_flow", verb) for verb in ("SELECT", "INSERT", "DELETE")),
    },
    "decryptor": set(),
    # What is kept of the store: it has none.
    "forwarder": {
        ("store", "SELECT"),
        ("store", "INSERT"),
        ("message", "SELECT"),
        ("quarantine", "SELECT"),
    },
}
#: By services of the release before, while they are replaced.
ASKED_BEFORE = {"fetcher": {("request_slot", v) for v in ("SELECT", "INSERT", "UPDATE", "DELETE")}}
#: By the scaler, which is no service of ours and has the forwarder's account.
ASKED_BY_OTHERS = {("handler_queue", "SELECT")}


@pytest.fixture
def stack(build_stack: Callable[..., Stack]) -> Stack:
    return build_stack("redis://unused")


def tables_of(stack: Stack) -> set[str]:
    query = "SELECT relname FROM pg_class WHERE relnamespace = current_schema()::regnamespace"
    return {name for (name,) in stack.query(f"{query} AND relkind IN ('r', 'p')")}


@pytest.mark.parametrize("service", WORKERS)
def test_each_right_is_one_that_a_statement_takes(stack: Stack, service: str) -> None:
    with psycopg.connect(stack.url_of(service)) as session:
        granted = {(table, verb) for table, verb in session.execute(GRANTED).fetchall()}
    tables, statements = tables_of(stack), statements_of(service).values()
    needed = {
        right for statement in statements for right in rights_for(statement) if right[0] in tables
    }
    needed |= ASKED_BEFORE.get(service, set())
    locked = set().union(*map(locks_of, statements))
    if service == "forwarder":
        needed |= ASKED_BY_OTHERS
    assert granted - needed - locked == set(), "granted, and no statement takes it"
    assert needed - granted - NEVER_ASKED[service] == set(), "a statement would be refused"


@pytest.mark.parametrize("service", WORKERS)
def test_what_mails_say_is_read_by_who_names_it(stack: Stack, service: str) -> None:
    """In whatever table it stands."""
    query = (
        "SELECT relname, attname FROM pg_attribute JOIN pg_class AS c ON c.oid = attrelid"
        " WHERE relnamespace = current_schema()::regnamespace AND relkind IN ('r', 'p')"
        " AND relname LIKE ANY (ARRAY['message%%', 'quarantine', 'outbox', 'settlement'])"
        " AND NOT relispartition AND attname = ANY(%s)"
        " AND has_column_privilege(c.oid, attnum, 'SELECT')"
    )
    with psycopg.connect(stack.url_of(service)) as session:
        readable = set(session.execute(query, [sorted(SAID)]).fetchall())
    named = {
        (table, word)
        for statement in statements_of(service).values()
        for table, verb in rights_for(statement)
        if verb == "SELECT"
        for word in re.findall(r"\w+", statement)
        if word in SAID
    }
    assert readable - named == set()
    tables = {table for table, _ in readable}
    assert ("message" in tables) == (service == "decryptor")
    # The fetcher writes down what it read of the header of a mail that it leaves at its server.
    assert ("quarantine" in tables) == (service in {"fetcher", "decryptor"})
