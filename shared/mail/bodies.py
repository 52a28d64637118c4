"""The text of a mail: its plain text, or that of its HTML by a kept library (resiliparse)."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from typing import Final, NamedTuple

from resiliparse.extract.html2text import extract_plain_text

from posthouse.flowed import is_flowed, joined
from shared.mail import charsets
from shared.mail.charset_hints import text_hint
from shared.mail.findings import FindingKind
from shared.mail.html_bounds import not_too_deep, without_formatting
from shared.mail.parts import content_id, is_attached
from shared.mail.region import made
from shared.mail.structure import Part
from shared.mail.transfer_encodings import decode_start

#: Octets of HTML that are read of a part, at most: as many times the text that is wanted.
_HTML_FOR_TEXT: Final = 16
#: The same of any text, and of all parts of a mail: they need not hold any.
_LONGEST_HTML: Final = 1 << 20
#: How deep elements may lie in each other.
_DEEPEST: Final = 2000
_CONTROL: Final = bytes({*range(32), 127} - {9, 10})
#: The other control characters, and the byte order mark, in UTF-8.
_WIDE_CONTROL: Final = re.compile(rb"\xc2[\x80-\x9f]|\xef\xbb\xbf")
_BARE_CR: Final = re.compile(rb"\r(?!\n)")
_BLANK_LINES: Final = re.compile(r"\n{3,}")
#: Labels of texts that need no decoding to be cleaned.
UTF_8: Final = ("utf-8", "us-ascii")
#: Octets of a text, as it is sent, that may be all white space.
_MAY_BE_EMPTY: Final = 256
_SHOWN: Final = ("text/", "multipart/")
_TEXTS: Final = ("text/plain", "text/html")
#: Octets of a character in the widest encoding.
WIDEST: Final = 4


class Body(NamedTuple):
    """`text` has LF line ends and no control characters but those and tabs.

    `truncated`: the mail has more of it. `is_from_html`: there is no plain text.
    """

    text: str = ""
    truncated: bool = False
    is_from_html: bool = False


def read_body(root: Part, limit: int) -> Body:
    """At most `limit` octets of text (in UTF-8) of all parts that are shown one below the other."""
    if limit <= 0:
        return Body()
    pieces: list[str] = []
    left, truncated, from_html = limit, False, False
    left_of_html = _LONGEST_HTML
    for part in _texts_in_view(root):
        if left <= 0 or left_of_html <= 0:
            truncated = True
            break
        text, size, cut = text_of(part, left)
        if part.entity.media_type == "text/html":
            from_html = True
            left_of_html -= min(len(part.entity.body), _most_html(left))
        truncated = truncated or cut
        if text and not text.isspace():
            pieces.append(text.strip("\n"))
            left -= size
    return made(Body, ("\n".join(pieces), truncated, from_html))


def html_part(root: Part) -> Part | None:
    """The first HTML text that is shown; None where there is none."""
    for one in _inline(root) if root.parts else (root,):
        if one.entity.media_type == "text/html" and not is_attached(one):
            return one
    return None


def text_of(part: Part, limit: int) -> tuple[str, int, bool]:
    """(the text of a text/plain or text/html, up to so many octets; how many it has; whether there
    are more)."""
    _, body, media_type, parameters, encoding = part.entity
    is_html = media_type == "text/html"
    most = _most_html(limit) if is_html else limit * WIDEST
    octets = decode_start(body, encoding, most + 1)
    cut = len(octets) > most
    label = parameters.get("charset", "")
    flowed = not is_html and is_flowed(parameters)
    if not is_html and not flowed and not cut and label.lower() in UTF_8:
        try:
            return cleaned(octets, limit, bare_cr=_may_have_bare_cr(part))
        except UnicodeDecodeError:
            pass
    hint = ""
    if not octets.isascii() and not charsets.codec_of(label):
        hint = text_hint(octets, body.buffer, is_html=is_html)
    text = charsets.decode(octets[:most], label, hint).text
    if is_html:
        text = without_formatting(text)
        shallow = not_too_deep(text, _DEEPEST)
        cut = cut or len(shallow) < len(text)
        text = _BLANK_LINES.sub("\n\n", extract_plain_text(shallow))
    elif flowed:
        text = joined(text.replace("\r\n", "\n").replace("\r", "\n"), parameters)
    shown, size, more = cleaned(text.encode("utf-8", "replace"), limit, bare_cr=True)
    return shown, size, cut or more


def _most_html(limit: int) -> int:
    return min(_LONGEST_HTML, max(limit, 4096) * _HTML_FOR_TEXT)


def _may_have_bare_cr(part: Part) -> bool:
    """False where the structure was read of the same octets, and has found none."""
    if part.entity.transfer_encoding not in ("7bit", "8bit"):
        return True
    return bool(part.findings) and any(one.kind is FindingKind.BARE_CR for one in part.findings)


def cleaned(octets: bytes, limit: int, *, bare_cr: bool) -> tuple[str, int, bool]:
    """(at most `limit` octets of UTF-8, as text; how many they are; whether there are more).

    `bare_cr`: there may be a CR without its LF. Raises UnicodeDecodeError.
    """
    if bare_cr and _BARE_CR.search(octets):
        octets = octets.replace(b"\r\n", b"\n").replace(b"\r", b"\n")
    kept = octets.translate(None, _CONTROL)
    if not kept.isascii() and (b"\xc2" in kept or b"\xef\xbb\xbf" in kept):
        kept = _WIDE_CONTROL.sub(b"", kept)
    if len(kept) <= limit:
        return kept.decode(), len(kept), False
    end = limit
    while end and kept[end] & 0xC0 == 0x80:  # not within a character
        end -= 1
    return kept[:end].decode(), end, True


def _texts_in_view(part: Part) -> Iterable[Part]:
    """The texts that a reader sees one below the other: of alternatives, the plain one."""
    if is_attached(part):
        return ()
    return (part,) if part.entity.media_type in _TEXTS else _texts_among(part)


def _texts_among(part: Part) -> Iterator[Part]:
    """Those of the parts of a multipart."""
    kind = part.entity.media_type
    if kind == "multipart/alternative":
        texts = [found for one in part.parts if (found := list(_texts_in_view(one)))]
        if len(texts) > 1:
            # Some leave the plain form empty, which is no alternative to the other.
            texts = [one for one in texts if not all(map(_is_empty, one))] or texts
        plain = [one for one in texts if all(map(_is_plain, one))]
        yield from (plain or texts or [[]])[0]
    elif part.multipart is not None:
        for one in [_root_of(part)] if kind == "multipart/related" and part.parts else part.parts:
            yield from _texts_in_view(one)


def _root_of(related: Part) -> Part:
    """The part that the others belong to: which `start` names (RFC 2387 section 3.2), or the first;
    or the first that is no picture, where that is none that is shown."""
    start = related.entity.parameters.get("start", "").strip("<> ")
    for one in related.parts if start else ():
        if content_id(one) == start:
            return one
    texts = (one for one in related.parts if one.entity.media_type.startswith(_SHOWN))
    return next(texts, related.parts[0])


def _inline(part: Part) -> Iterator[Part]:
    """The parts of this mail, without those of messages in it."""
    yield part
    if part.multipart is not None:
        for one in part.parts:
            yield from _inline(one)


def _is_empty(part: Part) -> bool:
    return len(part.entity.body) <= _MAY_BE_EMPTY and not text_of(part, _MAY_BE_EMPTY)[0].strip()


def _is_plain(part: Part) -> bool:
    return part.entity.media_type == "text/plain"
