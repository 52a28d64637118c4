"""The facts of one mail, read anew as the decryptor reads them for the event (`data.mail`)."""

from __future__ import annotations

import uuid

from services.admin.context import Context
from services.admin.operations.messages import read_message
from services.admin.operations.parts import readable
from shared.errors import NotFound
from shared.mail.facts import MailFacts, read_facts
from shared.mail.region import region
from shared.storage import connections, messages


def get_facts(ctx: Context, message_id: uuid.UUID) -> MailFacts:
    """Of the form that handlers read, without its text. Who may read the mail may read its facts.

    Raises NotFound, also where retention has removed the octets, and TryAgain.
    """
    with readable(read_message(ctx, message_id)) as octets:
        return read_facts(region(octets), trusted=believed_servers(ctx, message_id), text_limit=0)


def believed_servers(ctx: Context, message_id: uuid.UUID) -> tuple[str, ...]:
    """The servers whose results count for a mail; none where its connection was deleted."""
    with ctx.transaction() as session:
        connection_id = messages.get(session, message_id).message.connection_id
        try:
            return connections.get(session, connection_id).believed_servers
        except NotFound:
            return ()
