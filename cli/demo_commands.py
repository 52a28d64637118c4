"""`posthouse demo`: the demo mailbox of `up --demo`, from the command line."""

from __future__ import annotations

import os
import re
import smtplib
import sys
from pathlib import Path
from typing import Annotated

import typer

from cli.local.data_folder import default_folder, local_api, read_kept
from cli.suggesting import Commands
from shared.errors import InvalidInput, NotFound, PosthouseError, TryAgain
from shared.quantities import sized

app = typer.Typer(cls=Commands, help="The demo mailbox of `up --demo`.", no_args_is_help=True)

DataDir = Annotated[
    Path | None,
    typer.Option(help="The folder `up` keeps everything in.", show_default="the XDG data folder"),
]


@app.command()
def send(
    file: Annotated[
        Path | None, typer.Argument(help="A mail to send as it is (- reads standard input).")
    ] = None,
    subject: Annotated[str, typer.Option(help="Its subject.")] = "A mail from the command line",
    sender: Annotated[
        str, typer.Option("--from", help="Who it comes from.")
    ] = "visitor@posthouse.example",
    text: Annotated[str, typer.Option(help="What it says.")] = "Hello!",
    to_encrypted: Annotated[
        bool, typer.Option("--to-encrypted", help="Encrypt it for the demo mailbox (S/MIME).")
    ] = False,
    smtp: Annotated[
        str,
        typer.Option(
            metavar="HOST:PORT",
            help="Where the demo mailbox takes mail, beside `up`: 127.0.0.1:1025 in its container.",
        ),
    ] = "",
    data_dir: DataDir = None,
) -> None:
    """Puts a mail into the demo mailbox, and asks Posthouse to look there now."""
    from cli.demo.certificate import USER, DemoCertificate
    from cli.demo.samples import compose, encrypted_octets
    from cli.demo.seed import fetch_now

    root = (data_dir or default_folder()).expanduser().absolute()
    octets = compose(sender, USER, subject, text + "\n").as_bytes() if file is None else _read(file)
    if b"\r\n" not in octets:  # as most files have it: SMTP would take all of it for one line
        octets = octets.replace(b"\n", b"\r\n")
    if to_encrypted:
        # Where its header ends must be beyond doubt: all that stands above it is sent in clear.
        octets = re.sub(rb"\r\n|\r|\n", b"\r\n", octets)
        octets = encrypted_octets(octets, DemoCertificate.of(root / "demo"))
    host, port = _smtp_address(smtp, root)
    try:
        with smtplib.SMTP(host, port, timeout=30) as server:
            server.sendmail("visitor@posthouse.example", [USER], octets)
    except smtplib.SMTPResponseException as error:
        answer = error.smtp_error
        words = answer if isinstance(answer, str) else answer.decode("utf-8", "replace")
        raise InvalidInput(f"The demo mailbox refuses the mail: {words}", field="file") from error
    except (OSError, smtplib.SMTPException) as error:
        raise TryAgain(
            f"The demo mailbox does not take mail on port {port}: {error}",
            hint="Does it run? `posthouse up --demo` has one for its data folder.",
        ) from error
    if smtp:
        typer.echo(f"Sent {sized(len(octets))} to {USER}; it is fetched with the next poll.")
        return
    try:
        fetch_now(*local_api(root))
    except PosthouseError as error:
        soon = f"it is fetched with the next poll ({error})"
    else:
        soon = "it is on its way to the handler"
    typer.echo(f"Sent {sized(len(octets))} to {USER}; {soon}.")


def _smtp_address(smtp: str, root: Path) -> tuple[str, int]:
    """Where the demo mailbox takes mail. Raises NotFound, InvalidInput."""
    if smtp:
        host, _, port = smtp.rpartition(":")
    else:
        host, port = "127.0.0.1", str(read_kept(root).get("demo_smtp_port") or "")
        if not port:
            raise NotFound(
                f"There is no demo mailbox in {root}.",
                hint="Start one with `posthouse up --demo`, or say where one is with --smtp.",
            )
    if not port.isdigit():
        raise InvalidInput(f"{smtp} is no HOST:PORT.", field="smtp")
    return host, int(port)


@app.command()
def mailbox(
    folder: Annotated[Path, typer.Option(help="Where its mails are kept.")],
    imap_port: Annotated[int, typer.Option(help="IMAP without TLS.")] = 1143,
    smtp_port: Annotated[int, typer.Option(help="SMTP; takes any sender and recipient.")] = 1025,
    host: Annotated[str, typer.Option(help="The address to listen on.")] = "127.0.0.1",
) -> None:
    """Runs the demo mail server. Its password is POSTHOUSE_DEMO_PASSWORD."""
    from cli.demo.certificate import USER
    from cli.demo.mailbox import serve
    from shared.telemetry import logs

    password = os.environ.get("POSTHOUSE_DEMO_PASSWORD")
    if not password:
        raise InvalidInput("The demo mailbox has no password.", hint="Set POSTHOUSE_DEMO_PASSWORD.")
    logs.configure("demo-mailbox")
    serve(folder, user=USER, password=password, host=host, imap_port=imap_port, smtp_port=smtp_port)


@app.command()
def handler() -> None:
    """Prints every mail that arrives at the handler `demo`."""
    from cli.demo.handler import run

    run()


def _read(file: Path) -> bytes:
    if str(file) == "-":
        return sys.stdin.buffer.read()
    try:
        return file.read_bytes()
    except OSError as error:
        raise InvalidInput(f"{file} cannot be read: {error.strerror}.", field="file") from error
