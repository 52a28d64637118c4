"""Trust anchors and senders of the file: known by fingerprint, made anew where they change."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, Final

from cryptography.hazmat.primitives import hashes

from cli.arguments import read_file
from cli.client import Api
from cli.declared.changes import Change, Difference
from cli.declared.document import Document, TrustedEntry
from shared.certificates.senders import merge_newer_copy, parse_sender_upload, read_certificates
from shared.errors import InvalidInput

#: The section of the file, and its path in the API.
PATHS: Final = {"trust_anchors": "trust-anchors", "senders": "sender-keys"}


class Trusted:
    """What has to be done so that those are trusted whom the document names."""

    def __init__(self, api: Api, document: Document, folder: Path) -> None:
        self._api = api
        self._document = document
        self._folder = folder
        self._there = {
            kind: {one["fingerprint"]: one for one in api.get(path)} for kind, path in PATHS.items()
        }
        self._wanted: dict[str, set[str]] = {kind: set() for kind in PATHS}

    def changes(self) -> Iterator[Change]:
        for kind in PATHS:
            for entry in getattr(self._document, kind):
                content = self._content(entry)
                fingerprint = _fingerprint(kind, entry.name, content)
                self._wanted[kind].add(fingerprint)
                there = self._there[kind].get(fingerprint)
                if there is None:
                    difference = Difference("fingerprint", None, fingerprint)
                    act = self._adding(kind, entry.name, content)
                    yield Change(kind, entry.name, "create", (difference,), act)
                    continue
                differences: list[Difference] = []
                if there["name"] != entry.name:
                    differences.append(Difference("name", there["name"], entry.name))
                known = str(there["certificate"]).encode()
                newer = _newer(known, content) if kind == "senders" else None
                if newer is not None:
                    differences.append(Difference("certificate", "as it is known", "a newer copy"))
                if differences:
                    act = self._renaming(kind, there["id"], entry.name, newer or known)
                    yield Change(kind, entry.name, "change", tuple(differences), act)

    def leftovers(self) -> Iterator[Change]:
        """Those that the document does not name; to be asked for behind `changes`."""
        for kind, path in PATHS.items():
            for fingerprint, item in self._there[kind].items():
                if fingerprint not in self._wanted[kind]:
                    act = self._deleting(f"{path}/{item['id']}")
                    yield Change(kind, item["name"], "delete", (), act)

    def _content(self, entry: TrustedEntry) -> bytes:
        if entry.certificate.startswith("file:"):
            return read_file(entry.certificate, "certificate", self._folder)
        return entry.certificate.encode()

    def _adding(self, kind: str, name: str, content: bytes) -> Callable[[], None]:
        def add() -> None:
            files = {"file": ("given", content)}
            self._api.post(PATHS[kind], files=files, data={"name": name})

        return add

    def _renaming(self, kind: str, id: int, name: str, content: bytes) -> Callable[[], None]:
        def rename() -> None:
            self._api.delete(f"{PATHS[kind]}/{id}")
            self._adding(kind, name, content)()

        return rename

    def _deleting(self, path: str) -> Callable[[], None]:
        return lambda: self._api.delete(path)


def _fingerprint(kind: str, name: str, content: bytes) -> str:
    found: Sequence[str]
    try:
        if kind == "senders":
            found = [one.fingerprint for one in parse_sender_upload(content)]
        else:
            found = [one.fingerprint(hashes.SHA256()).hex() for one in read_certificates(content)]
    except InvalidInput as error:
        raise InvalidInput(f"{kind} {name!r}: {error}", field=kind, hint=error.hint) from error
    if len(found) != 1:
        raise InvalidInput(
            f"{kind} {name!r}: there are {len(found)} in its file.",
            field=kind,
            hint="Give each an entry of its own.",
        )
    return found[0]


def _newer(known: bytes, content: bytes) -> bytes | None:
    """The key of a sender with what the file adds to it; None where that is nothing."""
    (old,), (given,) = parse_sender_upload(known), parse_sender_upload(content)
    newer = merge_newer_copy(old.certificate, given)
    return None if newer is None else newer.certificate


def exported(items: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """What the API shows of trust anchors or senders, as entries of the file."""
    return [{"name": item["name"], "certificate": item["certificate"]} for item in items]
