"""A whole examination, whatever the mode of the connection."""

from __future__ import annotations

from collections.abc import Callable

from shared.connections import Connection, Mode
from shared.mailbox import observing
from shared.mailbox.doctor import asking_graph, asking_imap, asking_pop3
from shared.mailbox.doctor.examining import Examination, Open


def examine(connection: Connection, open_: Open, *, seconds: float) -> Examination:
    """Asks everything. Never raises for what the server does: that is the result."""
    ask: Callable[[Examination], None] = asking_imap.ask
    if connection.mode is Mode.MICROSOFT_GRAPH:
        ask = asking_graph.ask
    elif connection.mode is Mode.POP3:
        ask = asking_pop3.ask
    found = Examination(connection, open_, seconds)
    with observing.observed(found.observer):
        ask(found)
    return found
