"""From the file and what there is to the changes between them, in an order that always works.

Credentials and certificates come before the connections that need them, those before the handlers
that take them; deletions run the other way round.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

from cli.client import Api
from cli.declared import certificates, connections, credentials, handlers, people, webhooks
from cli.declared.changes import Change
from cli.declared.document import Document
from cli.declared.existing import OPTIONAL, Existing
from cli.declared.trust import Trusted
from cli.declared.yaml_positions import meant
from shared.errors import InvalidInput
from shared.rules.ruleset import read_rules


class Plan:
    """What has to be done so that there is what the document says.

    `secrets` writes the secrets of things that exist anew: they cannot be compared. `prune`
    deletes what the document does not name. `acknowledge` stands for `acknowledged: true`
    everywhere.
    """

    def __init__(
        self,
        api: Api,
        document: Document,
        folder: Path,
        *,
        secrets: bool = False,
        prune: bool = False,
        acknowledge: bool = False,
    ) -> None:
        optional = [kind for kind in OPTIONAL if kind in document.model_fields_set]
        self._existing = Existing(
            api, folder, optional, all_secrets=secrets, acknowledge=acknowledge
        )
        self._document = document
        self._check_references()
        trusted = Trusted(api, document, folder)
        self.changes = [change for change in self._wanted() if change is not None]
        self.changes += trusted.changes()
        if prune:
            self.changes += [*self._leftovers(), *trusted.leftovers()]

    def _wanted(self) -> Iterator[Change | None]:
        for credential in self._document.credentials:
            yield credentials.planned(self._existing, credential)
        for certificate in self._document.certificates:
            yield certificates.planned(self._existing, certificate)
        for connection in self._document.connections:
            yield connections.planned(self._existing, connection)
        for handler in self._document.handlers:
            yield handlers.planned(self._existing, handler)
        for person in self._document.people:
            yield people.planned(self._existing, person)
        for webhook in self._document.webhooks:
            yield webhooks.planned(self._existing, webhook)

    def _leftovers(self) -> Iterator[Change]:
        for kind in reversed(self._existing.items):
            named = {entry.name.casefold() for entry in getattr(self._document, kind)}
            for folded, item in sorted(self._existing.items[kind].items()):
                if folded not in named:
                    path = f"{kind}/{item['id']}"
                    yield Change(
                        kind, item["name"], "delete", (), _deleting(self._existing.api, path)
                    )

    def _check_references(self) -> None:
        """Every name that is referred to must be in the document or be there already. Raises
        InvalidInput that says all that are not."""
        missing: list[str] = []
        for connection in self._document.connections:
            where = f"connections {connection.name!r}"
            for at, name in enumerate(connection.certificates):
                location = connection.location_of("certificates", at)
                missing += self._missing("certificates", name, f"{location}: {where}")
            if connection.credential:
                location = connection.location_of("credential")
                missing += self._missing(
                    "credentials", connection.credential, f"{location}: {where}"
                )
        for handler in self._document.handlers:
            for at, name in enumerate(handler.connections if handler.connections != "all" else ()):
                where = f"{handler.location_of('connections', at)}: handlers {handler.name!r}"
                missing += self._missing("connections", name, where)
            for path, name in read_rules(handler.rules).named_connections:
                where = f"{handler.location_of('rules', *path)}: handlers {handler.name!r}, rules"
                # An expression compares names as they stand.
                missing += self._missing(
                    "connections", name, where, exactly=path == ("expression",)
                )
        if missing:
            raise InvalidInput("\n".join(missing), field="file")

    def _missing(self, kind: str, name: str, where: str, *, exactly: bool = False) -> Iterator[str]:
        known = {folded: item["name"] for folded, item in self._existing.items[kind].items()}
        known |= {entry.name.casefold(): entry.name for entry in getattr(self._document, kind)}
        found = known.get(name.casefold())
        if found is None or (exactly and found != name):
            near = f" (did you mean {found!r}?)" if found else meant(name, known.values())
            yield f"{where} names {name!r}, which is not among the {kind}{near}."


def _deleting(api: Api, path: str) -> Callable[[], None]:
    return lambda: api.delete(path)
