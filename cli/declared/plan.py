"""From the file and what there is to the changes between them, in an order that always works.

Credentials and certificates come before the connections that need them, those before the handlers
that take them; deletions run the other way round.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, Final

from cli.declared.changes import Change, Difference
from cli.declared.document import (
    CertificateEntry,
    ConnectionEntry,
    CredentialEntry,
    Document,
    HandlerEntry,
)
from cli.declared.forwarding import Forwarding
from cli.declared.trusted import Trusted
from cli.given import referred, referred_bytes
from cli.remote import Api
from shared.connections import FIELDS_OF, SECRET_FIELDS, edit
from shared.errors import InvalidInput
from shared.kinds import kind_named
from shared.rules.ruleset import read_rules

KINDS: Final = ("credentials", "certificates", "connections", "handlers")
_HIDDEN: Final = "(secret)"
_SERVER: Final = frozenset(
    {"host", "port", "security", "verify_certificate", "ca_certificate", "mode"}
)


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
        self._api = api
        self._folder = folder
        self._secrets = secrets
        self._acknowledge = acknowledge
        self._there = {kind: _by_name(api, kind) for kind in KINDS}
        self._ids = {
            kind: {name: item["id"] for name, item in there.items()}
            for kind, there in self._there.items()
        }
        self._document = document
        self._check_references()
        trusted = Trusted(api, document, folder)
        self.changes = [change for change in self._wanted() if change is not None]
        self.changes += trusted.changes()
        if prune:
            self.changes += [*self._leftovers(), *trusted.leftovers()]

    def _wanted(self) -> Iterator[Change | None]:
        for credential in self._document.credentials:
            yield self._credential(credential)
        for certificate in self._document.certificates:
            yield self._certificate(certificate)
        for connection in self._document.connections:
            yield self._connection(connection)
        for handler in self._document.handlers:
            yield self._handler(handler)

    # ---- credentials

    def _credential(self, entry: CredentialEntry) -> Change | None:
        there = self._there["credentials"].get(entry.name.casefold())
        wanted = entry.model_dump(exclude={"client_secret", "client_certificate"})
        expires = wanted.pop("secret_expires_at")
        differences = _compare(there, wanted)
        if expires and (there is None or (there["secret_expires_at"] or "")[:10] != expires[:10]):
            before = there and there["secret_expires_at"]
            differences.append(Difference("secret_expires_at", before, expires))
        for name in ("client_secret", "client_certificate"):
            if getattr(entry, name) and (
                there is None or self._secrets or not there[f"has_{name}"]
            ):
                differences.append(Difference(name, None, _HIDDEN))
        secrets = {n: getattr(entry, n) for n in ("client_secret", "client_certificate")}
        check = self._checking(secrets, differences)
        return self._change("credentials", entry.name, there, differences, self._body(entry), check)

    # ---- certificates

    def _certificate(self, entry: CertificateEntry) -> Change | None:
        there = self._there["certificates"].get(entry.name.casefold())
        if entry.file is None:
            self._expect(entry, there)
            return None
        from shared.certificates import parse_certificate

        content = referred_bytes(entry.file, "file", self._folder)
        password = self._secret(entry.password, "password")
        parsed = parse_certificate(content, password)
        alias = entry.alias if entry.alias is not None else parsed.friendly_name
        wanted = {"alias": alias, "fingerprint": parsed.fingerprint}
        differences = _compare(there, wanted)
        if not differences:
            return None
        name = Path(entry.file).name
        data = {"password": password} if password else {}

        def create() -> None:
            new = self._api.post(
                "certificates",
                files={"file": (name, content)},
                data={**data, "name": entry.name, "alias": alias},
            )
            self._ids["certificates"][entry.name.casefold()] = new["id"]

        def change() -> None:
            assert there is not None
            path = f"certificates/{there['id']}"
            if there["fingerprint"] != parsed.fingerprint:
                self._api.put(f"{path}/file", files={"file": (name, content)}, data=data)
            if there["alias"] != alias:
                self._api.patch(path, {"alias": alias})

        verb = "change" if there else "create"
        act = change if there else create
        return Change("certificates", entry.name, verb, tuple(differences), act)

    def _expect(self, entry: CertificateEntry, there: Mapping[str, Any] | None) -> None:
        if there is None or there["fingerprint"] != entry.fingerprint:
            raise InvalidInput(
                f"certificates {entry.name!r}: there is none with this fingerprint.",
                field="certificates",
                hint="Give its file, as file:path: keys cannot be exported.",
            )

    # ---- connections

    def _connection(self, entry: ConnectionEntry) -> Change | None:
        there = self._there["connections"].get(entry.name.casefold())
        wanted = self._connection_fields(entry)
        given = {name: wanted[name] for name in wanted if name != "enabled"}
        differences = _compare(there, given)
        names = sorted(entry.certificates, key=str.casefold)
        before = [] if there is None else self._names("certificates", there["certificate_ids"])
        if [n.casefold() for n in names] != [n.casefold() for n in before]:
            differences.append(Difference("certificates", before, names))
        credential = there and there["credential_id"]
        now = self._names("credentials", [credential])[0] if credential else None
        if (entry.credential or "").casefold() != (now or "").casefold():
            differences.append(Difference("credential", now, entry.credential))
        enabled = bool(there and there["enabled"])
        if entry.enabled is not None and entry.enabled != enabled:
            differences.append(Difference("enabled", enabled, entry.enabled))
        if self._needs_password(entry, there, differences):
            differences.append(Difference("password", None, _HIDDEN))
        if self._needs_certificate(entry, there):
            differences.append(Difference("client_certificate", None, _HIDDEN))

        def body(fields: set[str]) -> dict[str, Any]:
            found = {n: wanted[n] for n in fields if n in wanted}
            if "certificates" in fields:
                found["certificate_ids"] = [self._id("certificates", n) for n in names]
            if "credential" in fields:
                named = entry.credential
                found["credential_id"] = self._id("credentials", named) if named else None
            if "password" in fields:
                found["password"] = self._secret(entry.password, "password")
            if "client_certificate" in fields:
                found["client_certificate"] = self._secret(
                    entry.client_certificate, "client_certificate"
                )
            if "enabled" in fields:
                found["enabled"] = entry.enabled
            acknowledged = self._acknowledge or entry.acknowledged
            found |= {"acknowledged": True} if acknowledged else {}
            if entry.start_from is not None and (there is None or "enabled" in fields):
                found["start_from"] = entry.start_from
            return found

        secrets = {n: getattr(entry, n) for n in ("password", "client_certificate")}
        check = self._checking(secrets, differences)
        return self._change("connections", entry.name, there, differences, body, check)

    def _connection_fields(self, entry: ConnectionEntry) -> dict[str, Any]:
        """Every field that the mode has, checked by the rules, as the API shows it."""
        special = {
            "password",
            "client_certificate",
            "credential",
            "certificates",
            "enabled",
            "acknowledged",
            "start_from",
        }
        given = entry.model_dump(exclude=special, exclude_none=True)
        if str(given.get("ca_certificate", "")).startswith("file:"):
            given["ca_certificate"] = referred(
                given["ca_certificate"], "ca_certificate", self._folder
            )
        stand_in: dict[str, Any] = {}
        kind = kind_named(entry.mode)
        if kind is not None and kind.has_server and not entry.credential:
            stand_in["password"] = "stands for the one that is kept"  # noqa: S105
        if entry.credential:
            stand_in["credential_id"] = 1
        try:
            checked = edit(None, given | stand_in).connection
        except InvalidInput as error:
            raise InvalidInput(
                f"connections {entry.name!r}, {error.field}: {error}",
                field=error.field,
                hint=error.hint,
            ) from error
        fields = FIELDS_OF[checked.mode] - {*SECRET_FIELDS, "credential_id", "certificate_ids"}
        found = {n: v for n, v in dataclasses.asdict(checked).items() if n in fields}
        plain = {n: list(v) if isinstance(v, tuple) else v for n, v in found.items()}
        return {n: str(v) if isinstance(v, str) else v for n, v in plain.items()}

    def _needs_password(
        self,
        entry: ConnectionEntry,
        there: Mapping[str, Any] | None,
        differences: list[Difference],
    ) -> bool:
        if entry.password is None:
            return False
        moved = any(d.field in _SERVER for d in differences)
        return there is None or self._secrets or not there["has_password"] or moved

    def _needs_certificate(self, entry: ConnectionEntry, there: Mapping[str, Any] | None) -> bool:
        if entry.client_certificate is None:
            return False
        return there is None or self._secrets or not there["has_client_certificate"]

    # ---- handlers

    def _handler(self, entry: HandlerEntry) -> Change | None:
        there = self._there["handlers"].get(entry.name.casefold())
        wanted = entry.model_dump(exclude={"connections", "forward"}) | {"rules": _rules(entry)}
        differences = _compare(there, wanted)
        forward = Forwarding(entry, there and there["forward"], self._folder, self._secrets)
        differences += forward.differences
        before: Any = None
        if there is not None:
            taken = there["connections"]
            before = "all" if taken == "all" else self._names("connections", taken)
        after = entry.connections
        if after != "all":
            after = sorted(after, key=str.casefold)
        if _folded(before) != _folded(after):
            differences.append(Difference("connections", before, after))

        def body(fields: set[str]) -> dict[str, Any]:
            found = {name: wanted[name] for name in fields & wanted.keys()}
            if forward.differences:
                found["forward"] = forward.body()
            if "connections" in fields:
                found["connections"] = (
                    "all" if after == "all" else [self._id("connections", n) for n in after]
                )
            return found

        def check() -> None:
            if forward.differences:
                forward.body()

        return self._change("handlers", entry.name, there, differences, body, check)

    # ---- all kinds

    def _change(
        self,
        kind: str,
        name: str,
        there: Mapping[str, Any] | None,
        differences: list[Difference],
        body: Callable[[set[str]], dict[str, Any]],
        check: Callable[[], None],
    ) -> Change | None:
        if there is not None and not differences:
            return None
        fields = {difference.field for difference in differences}

        def create() -> None:
            new = self._api.post(kind, body(fields | {"name"}))
            self._ids[kind][name.casefold()] = new["id"]

        def change() -> None:
            assert there is not None
            self._api.patch(f"{kind}/{there['id']}", body(fields))

        verb, act = ("create", create) if there is None else ("change", change)
        shown = [d for d in differences if there is not None or d.after not in (None, "", [], {})]
        return Change(kind, name, verb, tuple(shown), act, check)

    def _checking(
        self, secrets: Mapping[str, str | None], differences: list[Difference]
    ) -> Callable[[], None]:
        needed = {difference.field for difference in differences}

        def check() -> None:
            for name, reference in secrets.items():
                if name in needed:
                    self._secret(reference, name)

        return check

    def _body(self, entry: CredentialEntry) -> Callable[[set[str]], dict[str, Any]]:
        def body(fields: set[str]) -> dict[str, Any]:
            found = entry.model_dump(include=fields)
            for name in fields & {"client_secret", "client_certificate"}:
                found[name] = self._secret(found[name], name)
            return found

        return body

    def _leftovers(self) -> Iterator[Change]:
        for kind in reversed(KINDS):
            named = {entry.name.casefold() for entry in getattr(self._document, kind)}
            for folded, item in sorted(self._there[kind].items()):
                if folded not in named:
                    path = f"{kind}/{item['id']}"
                    yield Change(kind, item["name"], "delete", (), _deleting(self._api, path))

    def _check_references(self) -> None:
        """Every name that is referred to must be in the document or be there already."""
        for connection in self._document.connections:
            where = f"connections {connection.name!r}"
            self._check("certificates", connection.certificates, where)
            self._check("credentials", [connection.credential or ""], where)
        for handler in self._document.handlers:
            if handler.connections != "all":
                self._check("connections", handler.connections, f"handlers {handler.name!r}")

    def _check(self, kind: str, names: list[str], where: str) -> None:
        known = {entry.name.casefold() for entry in getattr(self._document, kind)}
        known |= set(self._there[kind])
        for name in names:
            if name and name.casefold() not in known:
                raise InvalidInput(
                    f"{where} names {name!r}, which is not among the {kind}.", field=kind
                )

    def _id(self, kind: str, name: str) -> int:
        found = self._ids[kind].get(name.casefold())
        if found is None:
            raise InvalidInput(f"{name!r} of the {kind} could not be made before.", field=kind)
        return int(found)

    def _names(self, kind: str, ids: list[int]) -> list[str]:
        by_id = {item["id"]: item["name"] for item in self._there[kind].values()}
        return sorted((by_id[i] for i in ids if i in by_id), key=str.casefold)

    def _secret(self, reference: str | None, name: str) -> str | None:
        return None if reference is None else referred(reference, name, self._folder)


def _rules(entry: HandlerEntry) -> dict[str, Any]:
    """As the API shows them. Raises InvalidInput that names the handler."""
    try:
        rules = read_rules(entry.rules)
    except InvalidInput as error:
        where = f"handlers {entry.name!r}, {error.field}"
        raise InvalidInput(f"{where}: {error}", field="rules", hint=error.hint) from error
    return rules.to_json() if rules else {}


def _deleting(api: Api, path: str) -> Callable[[], None]:
    return lambda: api.delete(path)


def _by_name(api: Api, kind: str) -> dict[str, dict[str, Any]]:
    paged = kind in ("connections", "certificates")
    items = api.every(kind) if paged else iter(api.get(kind)["items"])
    return {item["name"].casefold(): item for item in items}


def _compare(there: Mapping[str, Any] | None, wanted: Mapping[str, Any]) -> list[Difference]:
    found = []
    for name, after in wanted.items():
        before = None if there is None else there[name]
        if name == "rules" and before is not None and not any(before.values()):
            before = {}
        if name != "name" and (there is None or before != after):
            found.append(Difference(name, before, after))
    return found


def _folded(names: Any) -> Any:
    return [name.casefold() for name in names] if isinstance(names, list) else names
