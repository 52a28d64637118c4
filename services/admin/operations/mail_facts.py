"""The facts of one mail, read anew as the decryptor reads them for the event (`data.mail`)."""

from __future__ import annotations

import uuid

from services.admin.context import Context
from services.admin.operations.messages import read_message
from services.admin.operations.parts import readable
from shared.errors import NotFound
from shared.mail.facts import MailFacts, read_facts
from shared.mail.findings import Finding
from shared.mail.region import region
from shared.storage import connections, messages


def get_facts(ctx: Context, message_id: uuid.UUID) -> MailFacts:
    """Of the form that handlers read, without its text. Who may read the mail may read its facts.

    Its findings are those of the event, in its order: of the header and the layers as well.

    Raises NotFound, also where retention has removed the octets, and TryAgain.
    """
    trusted = believed_servers(ctx, message_id)
    with readable(read_message(ctx, message_id)) as octets:
        facts = read_facts(region(octets), trusted=trusted, text_limit=0)
    with ctx.transaction() as session:
        mail = messages.get(session, message_id)
    once: dict[tuple[str, str], Finding] = {}
    for one in (*mail.handed_out.findings, *facts.findings):
        once.setdefault((one.kind, one.detail), one)
    return facts._replace(findings=tuple(once.values()))


def believed_servers(ctx: Context, message_id: uuid.UUID) -> tuple[str, ...]:
    """The servers whose results count for a mail; none where its connection was deleted."""
    with ctx.transaction() as session:
        connection_id = messages.get(session, message_id).message.connection_id
        try:
            return connections.get(session, connection_id).believed_servers
        except NotFound:
            return ()
