"""The file of `posthouse apply`: its form, read and checked before anything is asked or done."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator, Mapping, Set
from datetime import date
from pathlib import Path
from typing import Annotated, Any, Final, Literal, TypeVar

import yaml
from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    PrivateAttr,
    ValidationError,
    create_model,
    model_validator,
)

from cli.declared import validation
from cli.declared.yaml_positions import (
    Fault,
    fault_at,
    keys_written_twice,
    meant,
    node_at,
    unfolded,
)
from shared.connections import Connection
from shared.credentials import Credential
from shared.errors import InvalidInput
from shared.field_descriptions import fields_of, words_of
from shared.handlers import Handler
from shared.validation_error_texts import in_words


def _refers(value: str) -> str:
    if not value.startswith(("env:", "file:")) or value.endswith(":"):
        raise ValueError("a secret does not stand in the file: write env:NAME or file:path")
    return value


#: Where a secret is: it never stands in the document itself.
Reference = Annotated[str, AfterValidator(_refers)]
Name = Annotated[str, Field(min_length=1, max_length=200)]
#: A date: YAML reads one without quotes as a date, and not as a text.
Day = Annotated[str, BeforeValidator(lambda it: it.isoformat() if isinstance(it, date) else it)]


class _Entry(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True)

    name: Name
    #: Its node in the text, with the file's name.
    _stands: tuple[str, yaml.Node | None] = PrivateAttr(("", None))

    def location_of(self, *location: int | str) -> str:
        """`file.yaml, line 3, column 5` of a field of it, or of an item of the field."""
        path, node = self._stands
        return _at(path, fault_at(node, location, ""))


E = TypeVar("E", bound=_Entry)


def _with_fields(
    value: type, *, named: Set[str] = frozenset(), defaults: bool = True
) -> Callable[[type[E]], type[E]]:
    """Adds the described fields of the value; those `named` stand in the file by a name.

    Without `defaults` what is left out is None.
    """

    def decorate(entry: type[E]) -> type[E]:
        fields: dict[str, Any] = {}
        for name, one in fields_of(value).items():
            if name in entry.model_fields or name in named:
                continue
            kind: Any = one.kind
            if words_of(one.kind):
                kind = str
            elif one.kind is Mapping:
                kind = dict[str, str]
            elif one.items is not None:
                kind = list[one.items]  # type: ignore[name-defined]
            default = one.default if defaults else None
            fields[name] = (kind if defaults else kind | None, default)
        return create_model(
            entry.__name__, __base__=entry, __doc__=entry.__doc__, __module__=__name__, **fields
        )

    return decorate


@_with_fields(Credential)
class CredentialEntry(_Entry):
    """An OAuth2 credential; the fields of the API, its secrets by reference."""

    provider: str
    client_secret: Reference | None = None
    client_certificate: Reference | None = None
    secret_expires_at: Day | None = None


class CertificateEntry(_Entry):
    """A certificate: the file it is in, or (as `export` writes it) the fingerprint that the one
    of that name has to have."""

    alias: str | None = None
    file: Annotated[str, Field(pattern=r"^file:.+")] | None = None
    password: Reference | None = None
    fingerprint: Annotated[str, Field(pattern=r"^[0-9a-f]{40,64}$")] | None = None

    @model_validator(mode="after")
    def _has_one(self) -> CertificateEntry:
        if self.file is None and self.fingerprint is None:
            raise ValueError("give its file, as file:path")
        return self


class TrustedEntry(_Entry):
    """A trust anchor, or the key or certificate of a sender: its text, or `file:path`."""

    certificate: Annotated[str, Field(min_length=1)]


@_with_fields(Connection, named={"credential_id", "certificate_ids"}, defaults=False)
class ConnectionEntry(_Entry):
    """A connection; the fields of the API, but credential and certificates by their names.

    Fields that are left out have their default. `enabled` left out leaves it as it is.
    """

    mode: str
    username: str
    password: Reference | None = None
    client_certificate: Reference | None = None
    credential: str | None = None
    certificates: list[str] = []
    enabled: bool | None = None
    acknowledged: bool = False
    start_from: Day | None = None


class ForwardEntry(BaseModel):
    """Where a handler's events are passed on to; the fields of the API, its secrets by reference.

    Without `secret` Posthouse makes one, which `posthouse handlers forward secret` shows.
    """

    model_config = ConfigDict(extra="forbid", strict=True)

    #: Left out: that of the address.
    kind: str | None = None
    #: Shown nowhere once it is saved, so a change of it within one host needs `--secrets`.
    address: Annotated[str, Field(min_length=1)]
    secret: Reference | None = None
    headers: dict[str, Reference] = {}
    client_certificate: Reference | None = None
    credentials: dict[str, Reference] = {}
    ca_certificate: str = ""
    format: str = "structured"
    timeout_seconds: int = 10
    concurrency: int = 8
    retry_for_seconds: int = 259_200
    max_bytes: int = 1_048_576
    links: str = "token"
    order: str = "none"
    subject: str = ""
    topic: str = ""
    key: str = "connection"
    sasl_mechanism: str = "PLAIN"


@_with_fields(Handler)
class HandlerEntry(_Entry):
    """A handler; its connections by their names, or all."""

    connections: Literal["all"] | list[str] = "all"
    #: As the API has them (docs/rules.md).
    rules: dict[str, Any] = {}
    forward: ForwardEntry | None = None


class PersonEntry(_Entry):
    """Somebody who may log in. Where the login provider's groups give role and tags, these here
    count for the first time only. `enabled` left out leaves it as it is."""

    email: str = ""
    role: Literal["viewer", "operator", "admin"] = "viewer"
    tags: list[str] = []
    password: Reference | None = None
    enabled: bool | None = None


class WebhookEntry(_Entry):
    """Where alerts go. Its address is as good as a password."""

    url: Reference
    secret: Reference | None = None
    template: Literal["json", "slack", "teams", "opsgenie"] = "json"
    #: Left out: every kind.
    kinds: list[str] = []
    enabled: bool = True


class Document(BaseModel):
    """The whole file."""

    model_config = ConfigDict(extra="forbid")

    version: Literal[1] = 1
    credentials: list[CredentialEntry] = []
    certificates: list[CertificateEntry] = []
    trust_anchors: list[TrustedEntry] = []
    senders: list[TrustedEntry] = []
    connections: list[ConnectionEntry] = []
    handlers: list[HandlerEntry] = []
    people: list[PersonEntry] = []
    webhooks: list[WebhookEntry] = []


#: Whose fields are known at a location of the file, numbers left out.
_FIELDS: Mapping[tuple[str, ...], type[BaseModel]] = {
    (): Document,
    ("credentials",): CredentialEntry,
    ("certificates",): CertificateEntry,
    ("trust_anchors",): TrustedEntry,
    ("senders",): TrustedEntry,
    ("connections",): ConnectionEntry,
    ("handlers",): HandlerEntry,
    ("handlers", "forward"): ForwardEntry,
    ("people",): PersonEntry,
    ("webhooks",): WebhookEntry,
}
#: Entries that the rules of the product are asked about.
_RULED: Mapping[str, type[_Entry]] = {
    "connections": ConnectionEntry,
    "handlers": HandlerEntry,
    "people": PersonEntry,
    "webhooks": WebhookEntry,
}
#: Whose fields name others, which are looked for in what there is.
_REFERRING = ("connections", "handlers")
#: Nodes of a file: 50,000 connections with twenty fields each.
_MOST_NODES: Final = 2_000_000
_NAMED = ("credentials", "certificates", "connections", "handlers", "people", "webhooks")


def read(path: Path) -> Document:
    """A file, every `*.yaml` and `*.yml` of a folder as if they were one, or `-`: standard input.

    Raises InvalidInput that names everything that is wrong, each with its line and column.
    """
    if not path.is_dir():
        return _read_one(path)
    files = sorted(p for p in path.iterdir() if p.suffix in (".yaml", ".yml") and p.is_file())
    if not files:
        raise InvalidInput(f"{path} holds no *.yaml.", field="file")
    documents = [_read_one(one) for one in files]
    lists = {
        kind: [entry for one in documents for entry in getattr(one, kind)]
        for kind in Document.model_fields
        if kind != "version" and any(kind in one.model_fields_set for one in documents)
    }
    for kind in (one for one in _NAMED if one in lists):
        for name in _twice([entry.name for entry in lists[kind]]).values():
            raise InvalidInput(f"{path}: {name!r} stands twice among the {kind}.", field=kind)
    return Document.model_validate(lists)


def _read_one(path: Path) -> Document:
    try:
        text = sys.stdin.read() if str(path) == "-" else path.read_text(encoding="utf-8")
        node = yaml.compose(text, yaml.SafeLoader)
        if unfolded(node) > _MOST_NODES:
            raise InvalidInput(f"{path} is too large, with its aliases in full.", field="file")
        loaded: Any = yaml.safe_load(text)
    except OSError as error:
        raise InvalidInput(f"{path} cannot be read: {error.strerror}.", field="file") from error
    except RecursionError as error:
        raise InvalidInput(f"{path} is nested too deeply.", field="file") from error
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        mark = getattr(error, "problem_mark", None)
        where = f", line {mark.line + 1}" if mark else ""
        reason = getattr(error, "problem", None) or "it is not UTF-8"
        raise InvalidInput(f"{path}{where} is not YAML: {reason}.", field="file") from error
    if not isinstance(loaded, dict):
        raise InvalidInput(f"{path} holds no mapping of connections, handlers …", field="file")
    faults = list(keys_written_twice(node))
    document = None
    try:
        document = Document.model_validate(loaded)
    except ValidationError as error:
        for one in error.errors(include_input=False, include_url=False):
            faults.append(fault_at(node, one["loc"], _worded(loaded, one)))
    for kind in _NAMED:
        entries = loaded.get(kind)
        for at, name in _twice(_names(entries)).items():
            text = f"{name!r} stands twice among the {kind}"
            faults.append(fault_at(node, (kind, at), text))
    for kind, model in _RULED.items():
        faults += _faults_of(node, loaded, kind, model)
    if faults or document is None:
        lines = [f"{_at(str(path), one)}: {_ended(one.text)}" for one in sorted(set(faults))]
        raise InvalidInput("\n".join(lines), field="file")
    for kind in _REFERRING:
        for at, entry in enumerate(getattr(document, kind)):
            entry._stands = (str(path), node_at(node, (kind, at)))
    return document


def _ended(sentence: str) -> str:
    return sentence if sentence.endswith("?") else f"{sentence}."


def _at(path: str, fault: Fault) -> str:
    return f"{path}, line {fault.line}, column {fault.column}"


def _faults_of(
    node: yaml.Node | None, loaded: dict[str, Any], kind: str, model: type[_Entry]
) -> Iterator[Fault]:
    """What is wrong with the entries whose form is right."""
    entries = loaded.get(kind)
    for at, given in enumerate(entries if isinstance(entries, list) else []):
        try:
            entry = model.model_validate(given).model_dump()
        except ValidationError:
            continue
        for path, text in validation.faults(kind, entry):
            named = _location(loaded, (kind, at, *path[:1]))  # which rule it is the text says
            yield fault_at(node, (kind, at, *path), named + text)


def _names(entries: Any) -> list[Any]:
    if not isinstance(entries, list):
        return []
    return [entry.get("name") if isinstance(entry, dict) else None for entry in entries]


def _twice(names: list[Any]) -> dict[int, str]:
    """The names that stood before, whatever their case, by their number."""
    seen: set[str] = set()
    found = {}
    for at, name in enumerate(names):
        if isinstance(name, str):
            if name.casefold() in seen:
                found[at] = name
            seen.add(name.casefold())
    return found


def _worded(loaded: dict[str, Any], one: Any) -> str:
    location = _location(loaded, one["loc"])
    if one["type"] != "extra_forbidden":
        said = in_words(one["type"], str(one["msg"]))
        return location.removesuffix(": ") + said if location else said.lstrip(": ")
    names = tuple(part for part in one["loc"][:-1] if isinstance(part, str))
    model, key = _FIELDS.get(names), str(one["loc"][-1])
    known = model.model_fields if model else ()
    return f"{location}there is no such key{meant(key, known)}"


def _location(loaded: dict[str, Any], loc: tuple[int | str, ...]) -> str:
    """`connections 'Billing', interval_minutes: ` rather than numbers."""
    parts: list[str] = [str(part) for part in loc if not isinstance(part, int)]
    if len(loc) >= 2 and isinstance(loc[1], int):
        entry = loaded[str(loc[0])][loc[1]]
        name = entry.get("name") if isinstance(entry, dict) else None
        named = isinstance(name, str) and name
        parts[0] = f"{loc[0]} {name!r}" if named else f"{loc[0]}, number {loc[1] + 1}"
    return ", ".join(parts) + ": " if parts else ""
