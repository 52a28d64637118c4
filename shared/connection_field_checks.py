"""What single fields of a connection may hold, beyond type and length."""

from __future__ import annotations

import re
import unicodedata
from typing import Any, Final

from pydantic import GetCoreSchemaHandler
from pydantic_core import CoreSchema, core_schema

from shared.errors import InvalidInput

#: `value` of RFC 8601 section 2.2, as servers write it: a token of RFC 2045.
_AUTHSERV_ID: Final = re.compile(r"[^\x00-\x20\x7f()<>@,;:\\\"/\[\]?=]{1,253}")
_MOST_TRUSTED: Final = 20
MOST_TAGS: Final = 20
LONGEST_TAG: Final = 50


class FolderName:
    """Names keep the spaces at their ends. A leading `/` is a folder outside the personal ones."""

    def __get_pydantic_core_schema__(
        self, source: Any, handler: GetCoreSchemaHandler
    ) -> CoreSchema:
        return core_schema.no_info_wrap_validator_function(self._wrap, handler(source))

    @staticmethod
    def _wrap(value: Any, handler: Any) -> str:
        if isinstance(value, str) and any(ord(c) < 32 or ord(c) == 127 for c in value.strip()):
            raise InvalidInput(
                "The folder's name holds a control character, a tab perhaps.",
                field="folder",
                hint="Mail servers list such a folder and do not open it: rename it there.",
            )
        text: str = handler("" if value is None else value)
        if not text.strip():
            return ""
        if any(not level for level in text.removeprefix("/").split("/")):
            raise InvalidInput(
                "The folder has an empty level: write Main/Sub, without a slash at the end.",
                field="folder",
            )
        return text


def host_alone(text: str) -> str:
    """A name or an address, without a port."""
    host = _host("host", text)
    if host.count(":") == 1:
        raise InvalidInput(
            "The host holds a port.", field="host", hint="The port has a field of its own."
        )
    return host


def host_and_port(text: str) -> str:
    """A name or an address, with `:port` where it is not the usual one."""
    _host("host_override", text)
    host, colon, port = text.partition(":")
    if colon and not (host and port.isascii() and port.isdigit() and 1 <= int(port) <= 65535):
        raise InvalidInput(
            "The host is a name, with :port where it is not the usual.", field="host_override"
        )
    return text


def pem(text: str) -> str:
    """Certificates of a private authority."""
    if text and "-----BEGIN CERTIFICATE-----" not in text:
        raise InvalidInput("The private CA is given as PEM certificates.", field="ca_certificate")
    return text


def authserv_ids(text: str) -> str:
    """Authserv-ids, each once, in lower case with a space between them."""
    found = list(dict.fromkeys(text.lower().replace(",", " ").split()))
    odd = next((one for one in found if not _AUTHSERV_ID.fullmatch(one)), None)
    if odd is not None or len(found) > _MOST_TRUSTED:
        raise InvalidInput(
            f"{odd!r} is no authserv-id."
            if odd is not None
            else f"At most {_MOST_TRUSTED} servers are trusted.",
            field="trusted_servers",
            hint="It is the first word of the Authentication-Results that your own server writes, "
            "mostly its name, such as mx.example.org.",
        )
    return " ".join(found)


def tags(value: Any) -> Any:
    """Tags, each once, in order. They are lower case (NFC), so that one tag is written one way, and
    hold no comma, which stands between them in forms and files."""
    if not isinstance(value, (list, tuple)) or not all(isinstance(one, str) for one in value):
        raise InvalidInput("'tags' is a list of texts.", field="tags")
    found = sorted(
        {unicodedata.normalize("NFC", " ".join(one.split()).casefold()) for one in value}
    )
    for one in found:
        if not one or len(one) > LONGEST_TAG:
            raise InvalidInput(f"A tag has 1 to {LONGEST_TAG} characters.", field="tags")
        if "," in one or any(ord(c) < 32 or 0x7F <= ord(c) < 0xA0 for c in one):
            raise InvalidInput("A tag holds no comma and no control character.", field="tags")
        if any(0xD800 <= ord(c) < 0xE000 for c in one):
            raise InvalidInput("A tag holds half a character.", field="tags")
    if len(found) > MOST_TAGS:
        raise InvalidInput(f"A connection has at most {MOST_TAGS} tags.", field="tags")
    return tuple(found)


def _host(name: str, text: str) -> str:
    if any(c.isspace() or c in "/@" for c in text):
        raise InvalidInput("The host is a name or an address, nothing else.", field=name)
    return text
