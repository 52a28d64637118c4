"""What a mail says, made safe to look at: its header, its text, its HTML without anything active.

Nothing here trusts the mail: it is parsed from a bounded piece, HTML keeps only harmless tags
without any address to load from or go to, and the page shows it in a sandboxed frame.
"""

from __future__ import annotations

import email
import email.policy
from collections.abc import Iterable
from dataclasses import dataclass
from email.message import EmailMessage
from typing import Final

import nh3

#: Octets of a mail that are read for showing it; the rest can be downloaded.
SHOWN_OCTETS: Final = 4 << 20
_LONGEST_TEXT: Final = 200_000  # characters
_TAGS: Final = frozenset(
    {"a", "abbr", "b", "blockquote", "br", "caption", "cite", "code", "col", "colgroup", "dd"}
    | {"del", "div", "dl", "dt", "em", "h1", "h2", "h3", "h4", "h5", "h6", "hr", "i", "ins"}
    | {"kbd", "li", "ol", "p", "pre", "q", "s", "samp", "small", "span", "strong", "sub", "sup"}
    | {"table", "tbody", "td", "tfoot", "th", "thead", "tr", "tt", "u", "ul"}
)


@dataclass(frozen=True, slots=True)
class Attachment:
    """Its name as the sender gave it (maybe empty), and its size in octets once decoded."""

    name: str
    content_type: str
    size: int


@dataclass(frozen=True, slots=True)
class Content:
    """`text` and `html` are empty where the mail has no such part. `whole`: nothing was cut off."""

    header: str
    text: str
    html: str
    attachments: tuple[Attachment, ...]
    whole: bool


def read(chunks: Iterable[bytes]) -> Content:
    """Parses the first `SHOWN_OCTETS` of a raw mail. Never raises for what a mail holds."""
    raw = bytearray()
    whole = True
    for chunk in chunks:
        raw += chunk
        if len(raw) > SHOWN_OCTETS:
            del raw[SHOWN_OCTETS:]
            whole = False
            break
    data = bytes(raw)
    message = email.message_from_bytes(data, policy=email.policy.default)
    text, html, attachments = "", "", []
    for part in message.walk():
        if part.is_multipart():
            continue
        kind = part.get_content_type()
        if kind == "text/plain" and not text and not _is_attached(part):
            text = _text_of(part)
        elif kind == "text/html" and not html and not _is_attached(part):
            html = sanitised(_text_of(part))
        else:
            attachments.append(_attachment(part, kind))
    return Content(_header_of(data), text, html, tuple(attachments), whole)


def sanitised(html: str) -> str:
    """HTML without scripts, styles, forms, images and links: words and tables stay."""
    return nh3.clean(
        html,
        tags=set(_TAGS),
        attributes={"td": {"colspan", "rowspan"}, "th": {"colspan", "rowspan"}},
        clean_content_tags={"script", "style", "title", "template", "svg", "math"},
        strip_comments=True,
        link_rel=None,
    )


def _is_attached(part: EmailMessage) -> bool:
    try:
        return part.get_content_disposition() == "attachment"
    except (ValueError, AttributeError, IndexError, TypeError):
        return False


def _text_of(part: EmailMessage) -> str:
    """Decoded as far as its charset lets it; the parser's own errors must not hide a mail."""
    try:
        octets = part.get_payload(decode=True)
    except (ValueError, LookupError, AssertionError):
        octets = b""
    if not isinstance(octets, bytes):
        return ""
    charset = str(part.get_content_charset() or "utf-8")
    try:
        text = octets.decode(charset, "replace")
    except (LookupError, ValueError):
        text = octets.decode("utf-8", "replace")
    cut = text.replace("\r\n", "\n").replace("\0", "")
    return cut if len(cut) <= _LONGEST_TEXT else cut[:_LONGEST_TEXT] + "\n…"


def _attachment(part: EmailMessage, kind: str) -> Attachment:
    try:
        name = part.get_filename() or ""
        octets = part.get_payload(decode=True)
    except (ValueError, LookupError, AssertionError, AttributeError, IndexError, TypeError):
        name, octets = "", b""
    return Attachment(str(name), kind, len(octets) if isinstance(octets, bytes) else 0)


def _header_of(data: bytes) -> str:
    """The header block as it came, up to the empty line (RFC 5322 section 2.1)."""
    ends = [at for at in (data.find(b"\r\n\r\n"), data.find(b"\n\n")) if at >= 0]
    block = data[: min(ends)] if ends else data[:65_536]
    return block.decode("utf-8", "replace").replace("\r\n", "\n").replace("\0", "")
