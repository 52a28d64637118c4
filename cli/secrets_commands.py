"""`posthouse secrets`: the keys that seal passwords, tokens and private keys at rest."""

from __future__ import annotations

from typing import Annotated

import typer

from cli.suggesting import Commands
from shared.errors import InvalidInput, SecretUnreadable

app = typer.Typer(cls=Commands, help="The keys that seal secrets at rest.", no_args_is_help=True)


@app.command("new-key")
def print_new_key() -> None:
    """Prints a fresh key for POSTHOUSE_SECRET_KEYS. Put it first to make it the active one."""
    from shared.vault import new_key

    typer.echo(new_key())


@app.command("keys-of")
def print_keys_of(
    service: Annotated[str, typer.Argument(help="scheduler, fetcher, decryptor or forwarder")],
) -> None:
    """Prints POSTHOUSE_SECRET_KEYS for one service: the keys of the columns that it opens.

    Derived from POSTHOUSE_SECRET_KEYS as it is set here, in the same order; a service that has
    these can open nothing else. The admin service needs the keys themselves.
    """
    from shared.settings import KeySettings, load
    from shared.storage.database_roles import SERVICES
    from shared.storage.sealed_columns import columns_of
    from shared.vault import SecretKey

    if service not in SERVICES:
        raise InvalidInput(f"There is no service {service!r}.", hint=", ".join(SERVICES))
    given = [SecretKey.parse(key.get_secret_value()) for key in load(KeySettings).secret_keys]
    typer.echo(",".join(str(key) for k in given for key in k.of(columns_of(service))))


@app.command()
def rotate() -> None:
    """Seals every stored secret with the active key, in batches, while everything runs.

    When it reports that nothing is left, the older keys may be taken out of POSTHOUSE_SECRET_KEYS.
    """

    from shared.settings import DatabaseSettings, KeySettings, load
    from shared.storage import sealed_columns
    from shared.storage.pool import Database
    from shared.vault import SecretPath, Vault

    keys = load(KeySettings).secret_keys
    url = load(DatabaseSettings).database_url.get_secret_value()
    vault = Vault.from_settings([key.get_secret_value() for key in keys])

    def reseal(table: str, column: str, row: str, sealed: bytes) -> bytes | None:
        path = SecretPath(table, column, row)
        return None if vault.is_current(sealed) else vault.seal(vault.open(sealed, path), path)

    unreadable = 0
    with Database(url, size=2) as database:
        for column in sealed_columns.SEALED_COLUMNS:
            found = sealed_columns.rotate(database, column, reseal)
            unreadable += found.unreadable
            typer.echo(f"{column.table}.{column.column}: {found.resealed} sealed anew")
    if unreadable:
        raise SecretUnreadable(
            f"{unreadable} secrets cannot be opened with the keys given.",
            hint="Add the key that sealed them to POSTHOUSE_SECRET_KEYS, or enter them again.",
        )
    typer.echo("Every stored secret is sealed with the active key.")
