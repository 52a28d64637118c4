"""A decryption certificate of the file, beside the one that there is."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from cli.arguments import read_file
from cli.declared.changes import Change
from cli.declared.document import CertificateEntry
from cli.declared.existing import Existing, compare
from shared.errors import InvalidInput


def planned(existing: Existing, entry: CertificateEntry) -> Change | None:
    there = existing.items["certificates"].get(entry.name.casefold())
    if entry.file is None:
        _expect(entry, there)
        return None
    from shared.certificates import parse_upload

    try:
        content = read_file(entry.file, "file", existing.folder)
        password = existing.secret(entry.password, "password")
        parsed = parse_upload(content, password)
    except InvalidInput as error:
        where = f"certificates {entry.name!r}, {error.field}"
        raise InvalidInput(f"{where}: {error}", field="certificates", hint=error.hint) from error
    alias = entry.alias if entry.alias is not None else parsed.friendly_name
    wanted = {"alias": alias, "fingerprint": parsed.fingerprint}
    differences = compare(there, wanted)
    if not differences:
        return None
    name = Path(entry.file).name
    data = {"password": password} if password else {}

    def create() -> None:
        new = existing.api.post(
            "certificates",
            files={"file": (name, content)},
            data={**data, "name": entry.name, "alias": alias},
        )
        existing.ids["certificates"][entry.name.casefold()] = new["id"]

    def change() -> None:
        assert there is not None
        path = f"certificates/{there['id']}"
        if there["fingerprint"] != parsed.fingerprint:
            existing.api.put(f"{path}/file", files={"file": (name, content)}, data=data)
        if there["alias"] != alias:
            existing.api.patch(path, {"alias": alias})

    verb = "change" if there else "create"
    act = change if there else create
    return Change("certificates", entry.name, verb, tuple(differences), act)


def _expect(entry: CertificateEntry, there: Mapping[str, Any] | None) -> None:
    if there is None or there["fingerprint"] != entry.fingerprint:
        raise InvalidInput(
            f"certificates {entry.name!r}: there is none with this fingerprint.",
            field="certificates",
            hint="Give its file, as file:path: keys cannot be exported.",
        )
