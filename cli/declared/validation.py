"""What an entry of the file means by the rules of the product, before anything is asked."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from typing import Any, Final

from shared.alerts.kinds import chosen_kinds
from shared.connection_editing import edit
from shared.connections import Connection
from shared.errors import InvalidInput, Refusals
from shared.handlers import FIELDS as HANDLER_FIELDS
from shared.handlers import edit as edit_handler
from shared.input_fields import instant
from shared.kinds import kind_named
from shared.people import email_of

#: Of a connection's entry, but no fields that are compared with what there is.
NO_FIELDS: Final = frozenset(
    {
        "password",
        "client_certificate",
        "credential",
        "certificates",
        "enabled",
        "acknowledged",
        "start_from",
    }
)
#: A name, or the number of a rule.
_STEP: Final = re.compile(r"([^.\[\]]+)(?=\[\d+\]|\.|$)|\[(\d+)\]")
#: `start_from` where it is no date.
_NO_DATES: Final = (None, "everything", "now")


def connection_of(entry: Mapping[str, Any]) -> Connection:
    """The connection that an entry describes. Raises InvalidInput with all that is wrong."""
    given = {n: v for n, v in entry.items() if n not in NO_FIELDS and v is not None}
    stand_in: dict[str, Any] = {}
    kind = kind_named(str(entry["mode"]))
    if kind is not None and kind.has_server and not entry["credential"]:
        stand_in["password"] = "stands for the one that is kept"  # noqa: S105
    if entry["credential"]:
        stand_in["credential_id"] = 1
    return edit(None, given | stand_in).connection


def faults(kind: str, entry: Mapping[str, Any]) -> Iterator[tuple[tuple[int | str, ...], str]]:
    """Path within the entry, and sentence, of each thing that is wrong with an entry whose form is
    right."""
    try:
        _CHECKS[kind](entry)
    except InvalidInput as error:
        for one in error.every:
            text = str(one).rstrip(".") + (f". {one.hint}".rstrip(".") if one.hint else "")
            is_of_rules = kind == "handlers" and one.field not in entry  # accept[0].sender
            yield (_in_rules(one.field) if is_of_rules else (one.field,) * bool(one.field)), text


def _in_rules(field: str) -> tuple[int | str, ...]:
    """`accept[0].kind` as a path within the entry."""
    found: list[int | str] = ["rules"]
    for name, number in _STEP.findall(field):
        found.append(int(number) if number else name)
    return tuple(found)


def _connection(entry: Mapping[str, Any]) -> None:
    # What `file:` names is read when the file's folder is known.
    refers = str(entry["ca_certificate"] or "").startswith("file:")
    refusals = Refusals()
    with refusals.collected():
        connection_of({**entry, "ca_certificate": None} if refers else entry)
    with refusals.collected():
        if entry["start_from"] not in _NO_DATES:
            instant("start_from", entry["start_from"])
    refusals.finish()


def _handler(entry: Mapping[str, Any]) -> None:
    own = {name: entry[name] for name in (*HANDLER_FIELDS, "rules")}
    edit_handler(None, own)


#: By kind, what raises InvalidInput with all that is wrong with an entry.
_CHECKS: Final[Mapping[str, Callable[[Mapping[str, Any]], object]]] = {
    "connections": _connection,
    "handlers": _handler,
    "people": lambda entry: email_of(entry["email"]),
    "webhooks": lambda entry: chosen_kinds(entry["kinds"]),
}
