"""`posthouse certificates`: what encrypted mails are opened with."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from cli import printing
from cli.api_commands import ApiCommands
from cli.arguments import Words, prompted_secret, read_reference, search_words
from cli.client import Api, ApiInvalid
from cli.named_objects import Name, add_delete_command, print_list
from cli.printing import AsJson

app = typer.Typer(
    cls=ApiCommands, help="What encrypted mails are opened with.", no_args_is_help=True
)
File = Annotated[
    Path, typer.Argument(exists=True, dir_okay=False, help="PKCS #12, PEM with key, or OpenPGP.")
]
Password = Annotated[
    str | None,
    typer.Option("--password", metavar="env:NAME|file:PATH", help="Where its password is."),
]
PasswordStdin = Annotated[
    bool, typer.Option("--password-stdin", help="Read the password from standard input.")
]


@app.command("list")
def list_certificates(
    words: Words = None,
    query: Annotated[str, typer.Option("--query", "-q", help="Part of name, alias …")] = "",
    as_json: AsJson = False,
) -> None:
    """Shows the certificates, when they end, and how many connections use them."""
    query = search_words(words, query)
    with Api.from_environment() as api:
        found = list(api.every("certificates", q=query))
    print_list(
        found,
        as_json,
        {
            "id": lambda c: c["id"],
            "name": lambda c: c["label"],
            "key": lambda c: c["key_type"],
            "addresses": lambda c: ", ".join(c["emails"]),
            "until": lambda c: (c["not_after"] or "never")[:10],
            "uses": lambda c: c["uses"],
        },
    )


@app.command()
def show(name: Name, as_json: AsJson = False) -> None:
    """Shows one certificate and who uses it."""
    with Api.from_environment() as api:
        _print(api.named("certificates", name), as_json)


@app.command()
def upload(
    file: File,
    name: Annotated[str, typer.Option(help="Default: its mail address.")] = "",
    alias: Annotated[str, typer.Option(help="Default: the file's friendly name.")] = "",
    password: Password = None,
    password_stdin: PasswordStdin = False,
    as_json: AsJson = False,
) -> None:
    """Adds the certificate and private key of a file. The key is never shown again."""
    with Api.from_environment() as api:
        values = {"name": name, "alias": alias}
        found = _send(api.post, "certificates", file, values, password, password_stdin)
    _print(found, as_json)


@app.command()
def replace(
    name: Name,
    file: File,
    password: Password = None,
    password_stdin: PasswordStdin = False,
    as_json: AsJson = False,
) -> None:
    """Puts a new file in the place of the old one; name, alias and connections stay."""
    with Api.from_environment() as api:
        path = f"certificates/{api.named('certificates', name)['id']}/file"
        found = _send(api.put, path, file, {}, password, password_stdin)
    _print(found, as_json)


@app.command()
def rename(
    name: Name,
    new_name: Annotated[str | None, typer.Option("--name")] = None,
    alias: Annotated[str | None, typer.Option()] = None,
    as_json: AsJson = False,
) -> None:
    """Changes name and alias."""
    changes = {k: v for k, v in (("name", new_name), ("alias", alias)) if v is not None}
    with Api.from_environment() as api:
        found = api.named("certificates", name)
        _print(api.patch(f"certificates/{found['id']}", changes), as_json)


add_delete_command(
    app,
    "certificates",
    "certificate",
    "Deletes a certificate that no connection uses, with its key.",
    label="label",
)


def _send(
    call: Any, path: str, file: Path, values: dict[str, str], password: str | None, stdin: bool
) -> Any:
    """Sends a file; asks for its password where it turns out to need one."""
    content = file.read_bytes()
    given = read_reference(password, "password") if password else None
    if stdin:
        given = prompted_secret("Password", from_stdin=True)

    def send(secret: str | None) -> Any:
        data = values | ({"password": secret} if secret else {})
        return call(path, files={"file": (file.name, content)}, data=data)

    try:
        return send(given)
    except ApiInvalid as error:
        if error.field != "password" or given is not None:
            raise
        asked = prompted_secret(f"Password of {file.name}", from_stdin=False)
        if asked is None:
            raise
        return send(asked)


def _print(found: dict[str, Any], as_json: bool) -> None:
    if as_json:
        printing.as_json(found)
        return
    names = ("id", "label", "kind", "key_type", "subject", "issuer", "serial", "fingerprint")
    printing.pairs(
        [
            *((name.replace("_", " "), found[name]) for name in names),
            ("addresses", ", ".join(found["emails"])),
            ("from", found["not_before"]),
            ("until", found["not_after"] or "no end"),
            ("used by", ", ".join(user["name"] for user in found["used_by"] or ())),
        ]
    )
