"""Generated requests at every operation of the API, by every role, for as long as is wanted.

`python -m tests.fuzz.api_fuzz --minutes 10`: every answer has to be one that the OpenAPI document
names, in its form, and never a 500. Ends with 1 where one was not, and prints the request.
"""

from __future__ import annotations

import argparse
import collections
import sys
import tempfile
import time
import uuid
from pathlib import Path
from typing import Any

from services.admin.auth.tokens import digest_of
from shared.storage.migrate import migrate
from tests.integration.api.conftest import Api
from tests.rig.api_requests import BY_TAG, OPERATIONS, Asking
from tests.servers.postgres import PostgresServer


def tokens_of(api: Api) -> Asking:
    """Asks with tokens that are there, whatever was deleted or renewed before."""

    def execute(sql: str, **values: Any) -> None:
        # By a session that the service has open: one a token cost as much as the request.
        with api.database.transaction() as session:
            session.execute(sql, values)

    def token(who: str) -> str:
        made = f"posthouse_{uuid.uuid4().hex}"
        if who == "handler":
            execute(
                "INSERT INTO handler (name, token_digest) VALUES ('asks', %(d)s)"
                " ON CONFLICT (name) DO UPDATE SET token_digest = excluded.token_digest",
                d=digest_of(made),
            )
        else:
            execute(
                "INSERT INTO api_token (name, digest, role, tags)"
                " VALUES (%(n)s, %(d)s, %(r)s, %(t)s)"
                " ON CONFLICT DO NOTHING",
                n=f"{who} {made[-8:]}",
                d=digest_of(made),
                r="operator" if who == BY_TAG else who,
                t=["sales"] if who == BY_TAG else [],
            )
        return made

    return Asking(api.url, api.session.request, token)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--minutes", type=float, default=10)
    parser.add_argument("--seed", type=int, default=time.time_ns() // 10**9)
    given = parser.parse_args()
    end, number = time.monotonic() + given.minutes * 60, given.seed
    failures: collections.Counter[str] = collections.Counter()
    rounds = 0
    with PostgresServer() as postgres, tempfile.TemporaryDirectory() as folder:
        url = postgres.create_database()
        migrate(url)
        with Api(url, Path(folder)) as api:
            asking = tokens_of(api)
            print(f"{len(OPERATIONS)} operations from {number}", flush=True)
            while time.monotonic() < end:
                for operation in OPERATIONS:
                    number += 1
                    rounds += 1
                    try:
                        asking.ask(operation, examples=10, start=number)
                    except Exception as error:
                        failures[operation.label] += 1
                        if failures[operation.label] <= 2:
                            print(f"{number} {operation.label}: {_shown(error)}\n", flush=True)
    print(f"{rounds} times ten requests; failures: {dict(failures) or 'none'}")
    return 1 if failures else 0


def _shown(error: Exception) -> str:
    notes = " ".join(getattr(error, "__notes__", []))
    return f"{type(error).__name__}: {str(error)[:1500]} {notes[:1500]}"


if __name__ == "__main__":
    sys.exit(main())
