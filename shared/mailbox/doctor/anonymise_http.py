"""Requests to Graph and to authorisation servers with names, ids, tokens and mails replaced."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from typing import Any, Final
from urllib.parse import parse_qsl, quote, unquote, urlencode, urlsplit

from shared.mailbox.doctor.anonymise_imap import replaced_level
from shared.mailbox.doctor.pseudonyms import Pseudonyms
from shared.mailbox.doctor.stand_in_mails import mail_of
from shared.mailbox.traffic_observer import HttpRequest

_HEADERS: Final = ("content-type", "retry-after")
_DATE: Final = re.compile(r"\d{4}-\d\d-\d\dT[\d:.]+Z?$")
_MEDIA: Final = re.compile(r"[a-z]+/[a-z0-9.+-]+")
_HTTP_DATE: Final = re.compile(r"[A-Z][a-z]{2}, [\w: ]{20,22} GMT")
#: Keys of JSON: names of properties, and annotations of OData. Others may be somebody's words.
_KEY: Final = re.compile(r"(?:[A-Za-z]\w*)?@odata\.[A-Za-z.]+|[A-Za-z]\w*")
#: Segments of Graph's and of authorisation servers' addresses that are everybody's.
_SEGMENT: Final = re.compile(
    r"v1\.0|users|me|mailFolders|messages|attachments|childFolders|inbox|msgfolderroot|deleteditems"
    r"|delta|\$value|\$batch|\$count|delta\(\)|oauth2|v2\.0|token|authorize|common|organizations"
    r"|consumers|\.well-known|openid-configuration|oauth-authorization-server|discovery|instance|keys"
    r"|move|copy|permanentDelete|microsoft\.graph\.\w+",
    re.I,
)
#: `mailFolders('AAMk…')`: a key as OData may put it.
_KEYED: Final = re.compile(r"(users|mailFolders|messages|attachments|childFolders)\('(.*)'\)", re.I)
_IDS: Final = frozenset({"id", "parentFolderId", "changeKey", "conversationId"})
_TOKENS: Final = frozenset({"access_token", "refresh_token", "id_token"})
_WORDS: Final = frozenset({"message", "error_description"})
_PLAIN: Final = frozenset({"@odata.type", "code", "error", "token_type", "status"})
_SIZES: Final = re.compile(r"Integer 0x0?e08$", re.I)

_KEYED_SEGMENTS: Final = frozenset({"users", "mailfolders", "messages", "attachments"})


class HttpRequests:
    """Takes every request, in order."""

    def __init__(self, names: Pseudonyms, mailbox: str) -> None:
        self._names = names
        self._mailbox = names.user(mailbox)
        self._mails = 0

    def taken(self, request: HttpRequest) -> dict[str, Any]:
        """A request and its answer as they may be shown to anybody."""
        kind = request.headers.get("content-type", "")
        return {
            "method": request.method,
            "url": self.url(request.url),
            "body": self._body(request.body),
            "status": request.status,
            "headers": {k: _header(request.headers[k]) for k in _HEADERS if k in request.headers},
            "answer": self._answer(request, kind),
            "ms": max(0, round((request.ended - request.started) * 1000)) if request.ended else 0,
        }

    def url(self, url: str) -> str:
        parts = urlsplit(url)
        segments = parts.path.split("/")
        graph = parts.path.startswith("/v1.0/")
        for at in range(1, len(segments)):
            before, here = segments[at - 1], unquote(segments[at])
            keyed = _KEYED.fullmatch(here)
            if keyed is not None:
                made = self._key(keyed[1], keyed[2].replace("''", "'"))
                segments[at] = f"{keyed[1]}('{made}')"
            elif graph and before.lower() in _KEYED_SEGMENTS:
                segments[at] = self._key(before, here)
            elif here and _SEGMENT.fullmatch(here) is None:
                segments[at] = self._names.of("path", here)
        query = urlencode(
            [(name, self._parameter(name, value)) for name, value in parse_qsl(parts.query)],
            quote_via=quote,
            safe="$,'()=",
        )
        host = "graph.example.org" if graph else "login.example.org"
        return f"https://{host}{'/'.join(segments)}" + (f"?{query}" if query else "")

    def _key(self, of: str, key: str) -> str:
        """What stands in place of the key of one of many."""
        if of.lower() == "users":
            return quote(self._names.user(key), safe="@")
        return key if _SEGMENT.fullmatch(key) is not None else self._names.of("id", key)

    def _parameter(self, name: str, value: str) -> str:
        if name.lower() in ("$skiptoken", "$deltatoken"):
            return self._names.of("token", value)
        match = re.match(r"displayName eq '(.*)'$", value)
        if match is not None:
            folder = replaced_level(self._names, match[1].replace("''", "'"))
            return f"displayName eq '{folder}'"
        if name.startswith("$") or name == "changeType":
            return value
        return self._names.of("value", value)

    def _body(self, body: bytes) -> str:
        if not body:
            return ""
        given = parse_qsl(body.decode("latin-1"))
        if any(name == "grant_type" for name, _ in given):
            return urlencode(
                [(name, value if name == "grant_type" else "***") for name, value in given]
            )
        try:
            return json.dumps(self._value("", json.loads(body)))
        except ValueError:
            return "***"

    def _answer(self, request: HttpRequest, kind: str) -> str:
        octets = bytes(request.answer)
        if request.url.partition("?")[0].endswith("/$value") and request.status < 400:
            self._mails += 1
            return mail_of(len(octets), self._mails).decode("latin-1")
        try:
            return json.dumps(self._value("", json.loads(octets)), ensure_ascii=False)
        except (ValueError, RecursionError):
            return "a page for people" if "html" in kind else ""

    def _value(self, name: str, value: Any) -> Any:
        if isinstance(value, Mapping):
            if "emailAddress" in value:
                return {"emailAddress": {"name": "name", "address": self._address(value)}}
            if _SIZES.match(str(value.get("id", ""))):
                return {"id": str(value["id"]), "value": str(value.get("value"))}
            return {
                key: self._value(key, one)
                for key, one in value.items()
                if _KEY.fullmatch(key) is not None
            }
        if isinstance(value, list):
            return [self._value(name, one) for one in value]
        if isinstance(value, str):
            return self._text(name, value)
        return value

    def _address(self, value: Mapping[str, Any]) -> str:
        address = (value["emailAddress"] or {}).get("address") or ""
        return self._names.of("address", str(address))

    def _text(self, name: str, text: str) -> str:
        if name in _IDS and not text.isdigit():
            return self._names.of("id", text)
        if name in _TOKENS:
            return self._names.of("token", text)
        if name in ("@odata.nextLink", "@odata.deltaLink"):
            return self.url(text)
        if name == "url":  # of a request in a batch
            return self.url("https://x/v1.0" + text).partition("/v1.0")[2]
        if name == "displayName":
            return replaced_level(self._names, text)
        if name in _WORDS:
            return self._names.words(text)
        if name in ("contentType", "Content-Type"):
            kind = text.partition(";")[0].strip()
            return kind if kind in ("text", "html") or _MEDIA.fullmatch(kind) else "replaced"
        plain = name in _PLAIN or name in ("method", "Prefer")
        if plain or not text or _DATE.match(text):
            return self._names.words(text)
        if name in _IDS:  # of a request in a batch
            return text
        if name == "name" and text.lower() == "smime.p7m":
            return text
        return "replaced"


def _header(value: str) -> str:
    """The value without parameters, which may be names of files."""
    value = value.partition(";")[0].strip()
    return (
        value if _MEDIA.fullmatch(value) or value.isdigit() or _HTTP_DATE.fullmatch(value) else "?"
    )
