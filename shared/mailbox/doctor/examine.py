"""A whole examination, whatever the kind of the mailbox."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Final

from shared.connections import Connection
from shared.errors import InvalidInput
from shared.mailbox import traffic_observer
from shared.mailbox.doctor import examine_graph, examine_imap, examine_pop3
from shared.mailbox.doctor.examination import Examination, Open

#: By the `protocol` of a kind (`shared.kinds`).
_EXAMINATIONS: Final[Mapping[str, Callable[[Examination], None]]] = {
    "imap": examine_imap.examine,
    "pop3": examine_pop3.examine,
    "graph": examine_graph.examine,
}


def examine(connection: Connection, open_: Open, *, seconds: float) -> Examination:
    """Asks everything. Never raises for what the server does: that is the result."""
    found = Examination(connection, open_, seconds)
    examine_kind = _EXAMINATIONS.get(connection.kind.protocol)
    if examine_kind is None:
        unknown = InvalidInput(f"The doctor does not know {connection.kind.title} yet.")
        found.failures.append(("examining", unknown))
        return found
    with traffic_observer.observed(found.observer):
        examine_kind(found)
    return found
