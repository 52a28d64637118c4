"""What lies beside what is signed or encrypted, and whether all readers read the content alike."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from functools import lru_cache

from services.decryptor.author import ambiguity
from services.decryptor.decoding_ambiguity import text_doubt
from services.decryptor.preambles import is_harmless
from services.decryptor.spool import Spool
from shared.mail.fields import unfold
from shared.mail.findings import TELLING_PARAMETERS, Finding, FindingKind
from shared.mail.parts import disposition
from shared.mail.region import Region
from shared.mail.structure import (
    MESSAGE_TYPES,
    PART_FIELDS,
    Entity,
    Multipart,
    Part,
    entity,
    read_entity,
)
from shared.mail.transfer_encodings import decode_start
from shared.mail_security import Signature

_STRUCTURE = frozenset(
    (
        FindingKind.MALFORMED_CONTENT_TYPE,
        FindingKind.ENCODED_BOUNDARY,
        FindingKind.MALFORMED_BOUNDARY,
        FindingKind.DELIMITER_WITH_TAIL,
        FindingKind.UNCLOSED_MULTIPART,
        FindingKind.ENCODED_MULTIPART,
        FindingKind.UNKNOWN_TRANSFER_ENCODING,
        FindingKind.TOO_MANY_PARTS,
        FindingKind.TOO_DEEP,
        FindingKind.BARE_CR,
        FindingKind.NUL,
    )
)
#: A quoted string is none.
_COMMENT = re.compile(rb'(?:[^"(]++|"(?:[^"\\]|\\.)*+(?:"|\Z))*+\(', re.DOTALL)
#: Of a text; empty where there is none.
_DISPOSITIONS = ("", "inline", "attachment")
_SMALL = 1 << 12
_WIDE = ("utf-16", "utf-32", "ucs-", "iso-10646-ucs", "unicode")
_WHOLE_BASE64 = re.compile(rb"[A-Za-z0-9+/\s]*={0,2}\s*")
#: Character sets whose white space is known.
_WITH_ASCII = ("us-ascii", "utf-8", "iso-8859-1", "windows-1252")
#: Markup that shows nothing: programs send an empty text as HTML, too.
_BLANK_MARKUP = re.compile(
    r"</?(?:html|head|body|div|p|br|span|font)(?:\s+(?:dir|lang|class|id)=[\"\w-]{1,80})*\s*/?>"
    r"|<!doctype html>|<meta http-equiv=[^<>]{0,100}>|&nbsp;",
    re.IGNORECASE,
)


def limit_of(whole: Entity, multipart: Multipart) -> tuple[Signature, str] | None:
    """Why a signature around a part of `multipart` does not cover all that a reader may see."""
    for one in multipart.findings:
        if one.kind == FindingKind.TEXT_OUTSIDE_PARTS and not (
            one.detail == "preamble" and is_harmless(multipart.preamble)
        ):
            return "partial", f"There is text outside the signed part: in the {one.detail}."
    doubt = mime_doubt(whole) or doubt_about(multipart.findings)
    return ambiguous(doubt) if doubt else None


def limit_of_headers(multipart: Multipart) -> tuple[Signature, str] | None:
    """The same of the headers of parts that hold what is signed: nobody signed them, and a line
    that is no field is where some readers begin the text."""
    for part in multipart.parts:
        doubt = entity_doubt(entity(part))
        if doubt:
            return ambiguous(doubt)
    return None


def ambiguous(doubt: str) -> tuple[Signature, str]:
    """The limit of a signature in a mail whose structure readers do not read alike."""
    return "ambiguous", f"The structure of the mail is ambiguous: {doubt}."


def entity_doubt(one: Entity) -> str:
    """The words of the findings about an entity's own header on which readers differ."""
    return mime_doubt(one) or ambiguity(one.header)


def mime_doubt(one: Entity) -> str:
    """The same of what an entity says of its body."""
    return doubt_about(one.findings) or comment_doubt(one)


def comment_doubt(one: Entity) -> str:
    """The word for a comment in Content-Type (RFC 2045 section 5.1): some readers take it for a
    part of the type, and show a file of a type that they do not know as a text."""
    kind = one.header.values(PART_FIELDS).get("content-type")
    return "comment" if kind and _has_comment(kind[0]) else ""


@lru_cache(maxsize=512)
def _has_comment(value: bytes) -> bool:
    return _COMMENT.match(unfold(value)) is not None


def content_doubt(content: Entity, spool: Spool) -> str:
    """A sentence where readers may differ on what the content says; empty where they agree."""
    for part in read_entity(content).walk():
        doubt = doubt_about(part.findings) or ambiguity(part.entity.header)
        doubt = doubt or comment_doubt(part.entity)
        doubt = doubt or _kind_doubt(part)
        if doubt:
            return f"The structure of the content is ambiguous: {doubt}."
        doubt = text_doubt(part.entity, spool)
        if doubt:
            return f"Not every reader reads the text alike: {doubt}."
    return ""


def _kind_doubt(part: Part) -> str:
    """The word for a part that some readers show as a text of the mail, and others do not."""
    media_type = part.entity.media_type
    if media_type == "multipart/digest":
        return "digest"  # mailparser knows no default of its parts but text
    if media_type == "message/delivery-status":
        return "delivery-status"  # mailparser takes it for a text
    if media_type.startswith("text/") and disposition(part).value not in _DISPOSITIONS:
        return "content-disposition"  # RFC 2183 section 2.8: such a part is an attachment
    if media_type == "message/rfc822" and disposition(part).value == "inline":
        return "inline-message"  # for mailparser its text is one of this mail
    return ""


def doubt_about(*findings: Iterable[Finding]) -> str:
    """The words of those findings on which readers differ about the text."""
    kinds = [
        one.kind
        for some in findings
        for one in some
        if one.kind in _STRUCTURE
        or (one.kind == FindingKind.DUPLICATE_PARAMETER and one.detail in TELLING_PARAMETERS)
        or (one.kind == FindingKind.MALFORMED_PARAMETER and _may_hide_others(one))
    ]
    return ", ".join(dict.fromkeys(kinds))


def _may_hide_others(malformed: Finding) -> bool:
    """Whether some readers may read no parameter behind a malformed one, or another one.

    Not behind the name of a file in parentheses, or with them: people's own words, as they are.
    """
    return malformed.detail != "name" and not malformed.detail.startswith("content-disposition")


def parts_with_text(multipart: Multipart) -> list[Region]:
    """The parts of a multipart but for texts that are empty: servers put them in."""
    return [one for one in multipart.parts if not _is_empty_text(one)]


def _is_empty_text(part: Region) -> bool:
    if len(part) > _SMALL:
        return False
    read = entity(part)
    if read.media_type not in ("text/plain", "text/html") or entity_doubt(read):
        return False
    # A name is shown, and in UTF-16 two spaces are a letter.
    said = read.header.value("content-disposition").lower()
    if "name" in read.parameters or b"name" in said:
        return False
    charset = read.parameters.get("charset", "us-ascii").lower()
    if charset.startswith(_WIDE):
        return False
    octets = read.body.copy()
    if not octets.strip():
        return True
    if charset not in _WITH_ASCII:
        return False
    if read.transfer_encoding == "base64" and not _WHOLE_BASE64.fullmatch(octets):
        return False  # not every reader stops where it ends
    octets = decode_start(read.body, read.transfer_encoding, _SMALL)
    text = octets.decode("utf-8" if charset == "utf-8" else "cp1252", "replace")
    if read.media_type == "text/html":
        text = _BLANK_MARKUP.sub("", text)
    return not text.strip()


def parts_beside(root: Part) -> Iterator[tuple[Part, bool]]:
    """(part, whether it lies in a forwarded message) of what is left as it came, but its root."""

    def below(part: Part, forwarded: bool) -> Iterator[tuple[Part, bool]]:
        for one in part.parts:
            inside = forwarded or part.entity.media_type in MESSAGE_TYPES
            yield one, inside
            yield from below(one, inside)

    yield from below(root, False)


def texts_outside_parts(root: Part) -> Iterator[Region]:
    """What lies before the first part of each multipart, and behind its last one."""
    for part in root.walk():
        if part.multipart is not None:
            yield from (part.multipart.preamble, part.multipart.epilogue)
