"""A mail handler in a few lines: prints what it gets. The demo's, and a pattern to start from."""

from __future__ import annotations

import email
import email.policy
import textwrap
from email.message import EmailMessage

from rich.console import Console
from rich.markup import escape

from cli.demo.seed import HANDLER
from posthouse import Consumer, MailEvent
from shared.errors import InvalidInput
from shared.quantities import sized
from shared.settings import OutputSettings, load
from shared.telemetry import logs
from shared.untrusted_text import shown

#: Larger mails are shown by their headers alone.
_READ_UP_TO = 8 << 20


def run() -> None:
    """Consumes the demo handler's queue until it is told to stop."""
    chosen = load(OutputSettings)
    url = chosen.output_url or chosen.broker_url
    if url is None:
        raise InvalidInput("Where are the queues?", hint="Set POSTHOUSE_OUTPUT_URL.")
    logs.configure("demo-handler", level="ERROR")
    console = Console(force_terminal=True, highlight=False, soft_wrap=True)
    Consumer(url.get_secret_value(), HANDLER).run(
        lambda event: console.print(described(event), end="")
    )


def described(event: MailEvent) -> str:
    """A mail in a few lines of rich's markup."""
    headers, security = event.headers, event.security
    notes = [sized(event.size)]
    if security.encrypted:
        opened = security.status == "decrypted"
        reason = escape(security.reason)
        notes.append("[green]decrypted[/]" if opened else f"[red]not opened:[/] {reason}")
    if security.signature != "none":
        notes.append(f"signature {escape(security.signature)} {escape(security.signer)}".rstrip())
    lines = [
        f"[bold cyan]✉[/] [bold]{escape(headers.subject) or '[dim](no subject)[/]'}[/]",
        f"  from {escape(headers.sender) or '[dim](nobody)[/]'}  [dim]{', '.join(notes)}[/]",
    ]
    if event.size <= _READ_UP_TO:
        mail = email.message_from_bytes(event.raw_bytes(), policy=email.policy.default)
        assert isinstance(mail, EmailMessage)
        begin = textwrap.shorten(_text(mail), 100, placeholder=" …")
        if begin:
            lines.append(f"  {escape(begin)}")
        lines += [
            f"  [dim]+ {escape(part.get_filename() or part.get_content_type())}[/]"
            for part in mail.iter_attachments()
        ]
    return shown("\n".join(lines)) + "\n"


def _text(mail: EmailMessage) -> str:
    """The readable part; empty where a charset or an encoding is beyond us."""
    body = mail.get_body(preferencelist=("plain", "html"))
    try:
        return str(body.get_content()) if body is not None else ""
    except (LookupError, ValueError):
        return ""
