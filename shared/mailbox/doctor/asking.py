"""A whole examination, whatever the kind of the mailbox."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Final

from shared.connections import Connection
from shared.errors import InvalidInput
from shared.mailbox import observing
from shared.mailbox.doctor import asking_graph, asking_imap, asking_pop3
from shared.mailbox.doctor.examining import Examination, Open

#: By the `protocol` of a kind (`shared.kinds`).
_ASKING: Final[Mapping[str, Callable[[Examination], None]]] = {
    "imap": asking_imap.ask,
    "pop3": asking_pop3.ask,
    "graph": asking_graph.ask,
}


def examine(connection: Connection, open_: Open, *, seconds: float) -> Examination:
    """Asks everything. Never raises for what the server does: that is the result."""
    found = Examination(connection, open_, seconds)
    ask = _ASKING.get(connection.kind.protocol)
    if ask is None:
        unknown = InvalidInput(f"The doctor does not know {connection.kind.title} yet.")
        found.failures.append(("examining", unknown))
        return found
    with observing.observed(found.observer):
        ask(found)
    return found
