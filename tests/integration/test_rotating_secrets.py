"""`posthouse secrets rotate` reaches every sealed secret, and nothing else."""

from __future__ import annotations

import subprocess
import sys

import psycopg
import pytest

from shared.storage.pool import Database
from shared.storage.sealed_columns import SEALED_COLUMNS, SealedColumn, rotate
from shared.vault import SecretPath, Vault, new_key

#: bytea columns that hold no secret: digests, public certificates.
_PLAIN = {
    ("authorisation_link", "digest"),
    ("certificate", "certificate"),
    ("certificate", "chain"),
    ("trust_anchor", "certificate"),
    ("sender_key", "certificate"),
    ("revocation", "fingerprint"),
    ("revocation", "certificate"),
    ("revocation", "issuer"),
    ("revocation", "issuer_key"),
    ("revocation_list", "list"),
    ("revocation_list", "issuer_key"),
    ("handler", "token_digest"),
    ("session", "digest"),
    ("login_device", "digest"),
    ("recovery_code", "digest"),
    ("api_token", "digest"),
    ("known_key", "digest"),
    ("known_key", "content"),
    ("known_content", "digest"),
    ("packed_content", "uids"),
    ("packed_content", "digests"),
    ("message", "sha256"),
    ("message", "opened_sha256"),
}


def _connection(session: psycopg.Connection[tuple[object, ...]], name: str, vault: Vault) -> int:
    row = session.execute(
        "INSERT INTO connection (name, mode) VALUES (%s, 'imap') RETURNING id", (name,)
    ).fetchone()
    assert row is not None
    identifier = int(str(row[0]))
    sealed = vault.seal(b"hunter2 " + name.encode(), _path(identifier))
    session.execute("UPDATE connection SET password = %s WHERE id = %s", (sealed, identifier))
    return identifier


def _path(identifier: int) -> SecretPath:
    return SecretPath("connection", "password", str(identifier))


def _run(database_url: str, *keys: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "cli.main", "secrets", "rotate"],
        env={
            "POSTHOUSE_DATABASE_URL": database_url,
            "POSTHOUSE_BROKER_URL": "redis://unused",
            "POSTHOUSE_STORE_URL": "file:///unused",
            "POSTHOUSE_SECRET_KEYS": ",".join(keys),
        },
        capture_output=True,
        text=True,
        check=False,
    )


@pytest.mark.promise("I7")
def test_after_a_rotation_the_old_key_is_not_needed(database_url: str) -> None:
    old, new = new_key(), new_key()
    with psycopg.connect(database_url) as session:
        ids = [_connection(session, f"c{n}", Vault.from_settings([old])) for n in range(1203)]
        session.execute("INSERT INTO connection (name, mode) VALUES ('none', 'imap')")
        vault = Vault.from_settings([old])
        session.execute(
            "INSERT INTO oauth_flow (state, connection_id, session, flow) "
            "VALUES ('s', %s, 'x', %s)",
            (ids[0], vault.seal(b"flow", SecretPath("oauth_flow", "flow", "s"))),
        )
    done = _run(database_url, new, old)
    assert done.returncode == 0, done.stderr
    assert "connection.password: 1203 sealed anew" in done.stdout
    assert "oauth_flow.flow: 1 sealed anew" in done.stdout
    only_new = Vault.from_settings([new])
    with psycopg.connect(database_url) as session:
        rows = session.execute(
            "SELECT id, name, password FROM connection WHERE password IS NOT NULL"
        )
        for identifier, name, sealed in rows:
            assert only_new.open(sealed, _path(identifier)) == b"hunter2 " + name.encode()
    again = _run(database_url, new)
    assert again.returncode == 0 and "connection.password: 0 sealed anew" in again.stdout


def test_secrets_that_no_key_opens_are_counted_and_left(database_url: str) -> None:
    lost, new = new_key(), new_key()
    with psycopg.connect(database_url) as session:
        identifier = _connection(session, "lost", Vault.from_settings([lost]))
        before = session.execute("SELECT password FROM connection").fetchone()
    done = _run(database_url, new)
    assert done.returncode == 1
    assert "1 secrets cannot be opened" in done.stderr and "POSTHOUSE_SECRET_KEYS" in done.stderr
    assert "Traceback" not in done.stderr
    with psycopg.connect(database_url) as session:
        row = session.execute("SELECT password FROM connection WHERE id = %s", (identifier,))
        assert row.fetchone() == before


def test_a_secret_that_changes_meanwhile_keeps_its_new_value(database_url: str) -> None:
    old, new = new_key(), new_key()
    both = Vault.from_settings([new, old])
    with psycopg.connect(database_url, autocommit=True) as session:
        identifier = _connection(session, "c", Vault.from_settings([old]))
        entered = both.seal(b"entered meanwhile", _path(identifier))

        def reseal(table: str, column: str, row: str, sealed: bytes) -> bytes:
            session.execute("UPDATE connection SET password = %s", (entered,))
            return both.seal(
                both.open(sealed, SecretPath(table, column, row)), SecretPath(table, column, row)
            )

        with Database(database_url, size=1) as database:
            found = rotate(database, SealedColumn("connection", "password"), reseal)
        assert found.resealed == 0
        assert session.execute("SELECT password FROM connection").fetchone() == (entered,)


def test_every_sealed_column_of_the_schema_is_known(database_url: str) -> None:
    with psycopg.connect(database_url) as session:
        rows = session.execute(
            "SELECT c.table_name, c.column_name FROM information_schema.columns c "
            "JOIN information_schema.tables t USING (table_schema, table_name) "
            "LEFT JOIN pg_inherits i ON i.inhrelid = c.table_name::regclass "
            "WHERE table_schema = 'public' AND i.inhrelid IS NULL "
            "AND udt_name IN ('bytea', '_bytea')"
        ).fetchall()
    binary = {(str(table), str(column)) for table, column in rows}
    assert binary - _PLAIN == {(c.table, c.column) for c in SEALED_COLUMNS}
