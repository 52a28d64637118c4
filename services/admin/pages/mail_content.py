"""What a mail says, made safe to look at: its header, its text, its HTML without anything active.

Nothing here trusts the mail: it is read from a bounded piece by the one reader (`shared.mail`),
with bounds on parts, depth, header and HTML. HTML keeps only harmless tags without any address to
load from or go to, and the page shows it in a sandboxed frame.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Final

import nh3

from shared.mail import charsets
from shared.mail.facts import MailFacts, read_facts
from shared.mail.findings import Finding
from shared.mail.html_bounds import bounded_formatting, not_too_deep
from shared.mail.parts import PlacedPart, is_attached, leaves, unpacked
from shared.mail.region import region
from shared.mail.structure import MESSAGE_TYPES, Part, read_structure
from shared.mail.transfer_encodings import decode_start

#: Octets of a mail that are read for showing it; the rest can be downloaded.
SHOWN_OCTETS: Final = 4 << 20
_LONGEST_TEXT: Final = 200_000  # characters
_LONGEST_HEADER: Final = 1 << 16
_MOST_ATTACHMENTS: Final = 200
#: How deep elements may lie in each other: sanitising takes the square of it.
_DEEPEST_HTML: Final = 1000
_TAGS: Final = frozenset(
    {"a", "abbr", "b", "blockquote", "br", "caption", "cite", "code", "col", "colgroup", "dd"}
    | {"del", "div", "dl", "dt", "em", "h1", "h2", "h3", "h4", "h5", "h6", "hr", "i", "ins"}
    | {"kbd", "li", "ol", "p", "pre", "q", "s", "samp", "small", "span", "strong", "sub", "sup"}
    | {"table", "tbody", "td", "tfoot", "th", "thead", "tr", "tt", "u", "ul"}
)


@dataclass(frozen=True, slots=True)
class ShownAttachment:
    """Its path, its name (maybe empty), and its size in octets once decoded.

    `within`: the path of the message in the mail or winmail.dat that it lies in, else empty.
    """

    path: str
    name: str
    content_type: str
    size: int
    within: str = ""


@dataclass(frozen=True, slots=True)
class ShownContent:
    """`text` and `html` are empty where the mail has no such part. `whole`: nothing was cut off."""

    header: str
    text: str
    html: str
    attachments: tuple[ShownAttachment, ...]
    whole: bool
    findings: tuple[Finding, ...]
    facts: MailFacts


def read(chunks: Iterable[bytes], trusted: Sequence[str] = ()) -> ShownContent:
    """Reads the first `SHOWN_OCTETS` of a raw mail. Never raises for what a mail holds.

    `trusted`: authserv-ids of the servers whose results are believed.
    """
    raw = bytearray()
    whole = True
    for chunk in chunks:
        raw += chunk
        if len(raw) > SHOWN_OCTETS:
            del raw[SHOWN_OCTETS:]
            whole = False
            break
    octets = region(bytes(raw))
    root = read_structure(octets)
    texts: dict[str, str] = {}
    attachments: list[ShownAttachment] = []
    for one, within in _placed_leaves(root):
        kind = one.media_type
        is_text = kind in ("text/plain", "text/html") and not is_attached(one.part)
        if is_text and not within and kind not in texts:
            texts[kind] = _text_of(one.part)
        elif len(attachments) < _MOST_ATTACHMENTS:
            attachments.append(ShownAttachment(one.path, one.name, kind, one.size, within))
            room = _MOST_ATTACHMENTS - len(attachments)
            attachments += [
                ShownAttachment(
                    file.path, file.name, file.media_type, file.size, file.container.path
                )
                for file in islice(unpacked(one), room)
            ]
    facts = read_facts(octets, trusted=trusted, text_limit=0)
    return ShownContent(
        _header_of(root),
        texts.get("text/plain", ""),
        sanitised(texts["text/html"]) if "text/html" in texts else "",
        tuple(attachments),
        whole,
        # What is not shown would seem to be missing.
        facts.findings if whole else root.all_findings,
        facts,
    )


def sanitised(html: str) -> str:
    """HTML without scripts, styles, forms, images and links: words and tables stay."""
    return nh3.clean(
        bounded_formatting(not_too_deep(html, _DEEPEST_HTML)),
        tags=set(_TAGS),
        attributes={"td": {"colspan", "rowspan"}, "th": {"colspan", "rowspan"}},
        clean_content_tags={"script", "style", "title", "template", "svg", "math"},
        strip_comments=True,
        link_rel=None,
    )


def _placed_leaves(root: Part) -> Iterator[tuple[PlacedPart, str]]:
    """The parts that hold something, each with the path of the message in the mail that it lies in
    ("" for the mail itself). A message that is all there is counts as the mail."""
    around: list[str] = []
    for one in leaves(root):
        if one.part is root and one.part.parts:
            continue
        while around and not one.path.startswith(f"{around[-1]}."):
            around.pop()
        yield one, around[-1] if around else ""
        if one.media_type in MESSAGE_TYPES:
            around.append(one.path)


def _text_of(part: Part) -> str:
    """Decoded by what the octets are (`shared.mail.charsets`)."""
    entity = part.entity
    octets = decode_start(entity.body, entity.transfer_encoding, 4 * _LONGEST_TEXT)
    text = charsets.decode(octets, entity.parameters.get("charset", "")).text
    cut = text.replace("\r\n", "\n").replace("\0", "")
    return cut if len(cut) <= _LONGEST_TEXT else cut[:_LONGEST_TEXT] + "\n…"


def _header_of(root: Part) -> str:
    """The header block as it came (RFC 5322 section 2.1)."""
    block = root.entity.header.octets[:_LONGEST_HEADER].rstrip(b"\r\n")
    return block.decode("utf-8", "replace").replace("\r\n", "\n").replace("\0", "")
