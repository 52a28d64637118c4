"""The forward of a handler in a file, beside the one that there is."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from cli.arguments import read_reference
from cli.declared.changes import Difference
from cli.declared.document import HandlerEntry
from cli.declared.existing import HIDDEN
from shared.errors import InvalidInput
from shared.forward_editing import SECRETS, edit
from shared.forwards import place_of


class Forwarding:
    """`differences` between what the file says and what the API shows; `body` brings the first.

    Secrets cannot be compared: they are written where there are none yet, where the place changes,
    or where all are to be written anew.
    """

    def __init__(
        self,
        entry: HandlerEntry,
        there: Mapping[str, Any] | None,
        folder: Path,
        all_secrets: bool,
    ) -> None:
        self._entry = entry.forward
        self._folder = folder
        self._written: set[str] = set()
        self.differences: list[Difference] = []
        if self._entry is None:
            if there is not None:
                self.differences = [Difference("forward", there["place"], None)]
            return
        self._check(entry.name)
        wanted = self._entry.model_dump(exclude=set(SECRETS), exclude_none=True) | {
            "ca_certificate": self._ca()
        }
        for name, after in wanted.items():
            before = there and there[name]
            if before != after:
                self._differs(name, before, after)
        place = place_of(self._text(self._entry.address, "address"))
        if all_secrets or there is None or there["place"] != place:
            self._differs("address", there and there["place"], place)
        if self._entry.secret and (all_secrets or there is None):
            self._differs("secret", None, HIDDEN)
        names = sorted(self._entry.headers)
        before = sorted(there["header_names"]) if there else []
        if names != before or (names and all_secrets):
            self._differs("headers", before, names)
        names = sorted(self._entry.credentials)
        before = sorted(there["credential_names"]) if there else []
        if names != before or (names and all_secrets):
            self._differs("credentials", before, names)
        is_there = bool(there and there["has_client_certificate"])
        if self._entry.client_certificate and (all_secrets or not is_there):
            self._differs("client_certificate", None, HIDDEN)

    def body(self) -> dict[str, Any] | None:
        """What the API is given."""
        entry = self._entry
        if entry is None:
            return None
        found = entry.model_dump(include=self._written - SECRETS)
        if "ca_certificate" in self._written:
            found["ca_certificate"] = self._ca()
        if "address" in self._written:
            found["address"] = self._text(entry.address, "address")
        if "secret" in self._written and entry.secret:
            found["secret"] = read_reference(entry.secret, "secret", self._folder)
        for field in ("headers", "credentials"):
            if field in self._written:
                found[field] = {
                    name: read_reference(text, field, self._folder)
                    for name, text in getattr(entry, field).items()
                }
        if "client_certificate" in self._written and entry.client_certificate:
            reference = entry.client_certificate
            found["client_certificate"] = read_reference(
                reference, "client_certificate", self._folder
            )
        return found

    def _check(self, handler: str) -> None:
        """Before anything is done. Raises InvalidInput that names the handler."""
        assert self._entry is not None
        options = self._entry.model_dump(exclude={*SECRETS, "ca_certificate"}, exclude_none=True)
        try:
            edit(None, options | {"address": self._text(self._entry.address, "address")})
        except InvalidInput as error:
            raise InvalidInput(
                f"handlers {handler!r}, {error.field}: {error}", field=error.field, hint=error.hint
            ) from error

    def _differs(self, name: str, before: Any, after: Any) -> None:
        self._written.add(name)
        self.differences.append(Difference(f"forward.{name}", before, after))

    def _ca(self) -> str:
        given = self._entry.ca_certificate if self._entry else ""
        return self._text(given, "ca_certificate").strip()

    def _text(self, given: str, name: str) -> str:
        is_reference = given.startswith(("env:", "file:"))
        return read_reference(given, name, self._folder) if is_reference else given
