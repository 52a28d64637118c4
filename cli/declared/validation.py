"""What an entry of the file means by the rules of the product, before anything is asked."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, Final

from shared.connection_editing import edit
from shared.connections import Connection
from shared.errors import InvalidInput
from shared.kinds import kind_named
from shared.rules.ruleset import read_rules

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


def faults(kind: str, entry: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """Field and sentence of each thing that is wrong with an entry whose form is right."""
    try:
        if kind == "connections":
            # What `file:` names is read when the file's folder is known.
            refers = str(entry["ca_certificate"] or "").startswith("file:")
            connection_of({**entry, "ca_certificate": None} if refers else entry)
        if kind == "handlers":
            read_rules(entry["rules"])
    except InvalidInput as error:
        for one in error.every:
            field = "rules" if kind == "handlers" else one.field
            text = str(one).rstrip(".") + (f". {one.hint}".rstrip(".") if one.hint else "")
            yield field, text
