"""How Postgres looks for the past mails of a handler."""

from __future__ import annotations

import uuid

from shared.clock import utc_now
from shared.handlers import edit
from shared.storage import ledger_rule_facts
from shared.storage.pool import Database


def test_past_mails_are_looked_for_by_the_connections_that_are_asked(database: Database) -> None:
    """By a plan that is kept, whichever these are, the mails of all are gone through: from the
    sixth time on over one connection to Postgres, minutes where the ledger is long."""
    handler = edit(None, {"name": f"h-{uuid.uuid4().hex[:8]}", "connections": [1]})
    with database.transaction() as session:
        for _ in range(8):
            ledger_rule_facts.page(
                session, {}, handler=handler, since=utc_now(), before=None, limit=10, seconds=60
            )
        ((kept,),) = session.execute(
            "SELECT count(*) FROM pg_prepared_statements WHERE statement LIKE '%AS left_out%'"
        ).fetchall()
    assert kept == 0
