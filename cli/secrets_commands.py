"""`posthouse secrets`: the keys that seal passwords, tokens and private keys at rest."""

from __future__ import annotations

import typer

from shared.vault import Vault, new_key

app = typer.Typer(help="The keys that seal secrets at rest.", no_args_is_help=True)


@app.command("new-key")
def print_new_key() -> None:
    """Prints a fresh key for POSTHOUSE_SECRET_KEYS. Put it first to make it the active one."""
    typer.echo(new_key())


@app.command()
def rotate() -> None:
    """Seals every stored secret with the active key, in batches, while everything runs.

    When it reports that nothing is left, the older keys may be taken out of POSTHOUSE_SECRET_KEYS.
    """
    from shared.storage.secrets import SealedColumn, rotate_all

    from shared.settings import Settings, load
    from shared.storage.pool import Database

    chosen = load(Settings)
    vault = Vault.from_settings([key.get_secret_value() for key in chosen.secret_keys])

    def tell(column: SealedColumn, resealed: int, unreadable: int) -> None:
        line = f"{column.table}.{column.column}: {resealed} sealed anew"
        typer.echo(line + (f", {unreadable} cannot be opened" if unreadable else ""))

    with Database(chosen.database_url.get_secret_value(), size=2) as database:
        unreadable = rotate_all(database, vault, tell)
    if unreadable:
        typer.echo(
            f"{unreadable} secrets cannot be opened with the keys given: add the key that sealed "
            "them, or enter these secrets again.",
            err=True,
        )
        raise typer.Exit(1)
    typer.echo("Every stored secret is sealed with the active key.")
