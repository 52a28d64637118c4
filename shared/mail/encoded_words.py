"""Text of header fields: encoded words (RFC 2047, RFC 2231 section 5) as people send them.

Words stand inside other words, hold spaces, split a character between them, and lie beside raw
octets. What cannot be read stays as it was sent and is a finding; one pass, no recursion: what a
word decodes to is never read again.
"""

from __future__ import annotations

import re
from functools import lru_cache
from typing import NamedTuple

import pybase64

from shared.mail import charsets
from shared.mail.findings import Finding, FindingKind

#: The beginning of a word up to its text. The lengths keep each look ahead short.
WORD_START = re.compile(rb"=\?([^?\s=<>]{1,80})\?([bBqQ])\?")
_WORD_END = b"?="
#: What comes first behind the beginning of a word: its end, or the beginning of another.
_NEXT_OF_WORD = re.compile(rb"(\?=)|" + WORD_START.pattern)
_FOLD = re.compile(rb"(?<![ \t])[ \t]*+\r?\n[ \t]*+")
#: A line that quoted-printable breaks (RFC 2045 section 6.7), which a word has no place for.
_SOFT_BREAK = re.compile(rb"=[ \t]*+\r?\n[ \t]*+")
_CONTROL = re.compile("[\x00-\x1f\x7f-\x9f]")
_HEX = re.compile(rb"=([0-9A-Fa-f]{2})")
_NOT_BASE64 = re.compile(rb"[^A-Za-z0-9+/=]")
#: Base64 for file names and URLs (RFC 4648 section 5).
_OF_URLS = bytes.maketrans(b"-_", b"+/")
#: Text that leaves a character set (RFC 1468) without having chosen one.
_LEAVES_SET = re.compile(rb"[^\x1b]*+\x1b\([BJ]")
_PADDED = re.compile(rb"([A-Za-z0-9+/]+)=*")
#: The byte order mark; nobody sees it, and programs encode it with the text.
_MARK = "\N{ZERO WIDTH NO-BREAK SPACE}"
_SHORT = 200


class Text(NamedTuple):
    """Decoded text on one line, without control characters or surrogates, and what was doubtful.

    Offsets of findings are those in the value that was given.
    """

    text: str
    findings: tuple[Finding, ...] = ()


class _Word(NamedTuple):
    start: int
    end: int
    label: str
    #: What the label means, whatever its name.
    charset: str
    octets: bytes


def read_text(value: bytes, hint: str = "") -> Text:
    """An unstructured value or a phrase, folded or not; `hint` is the body's charset, if any."""
    if value.isascii() and b"=?" not in value:
        text = value.decode("ascii").strip()
        if text.isprintable():  # what nearly every value is
            return Text(text)
    if len(value) > _SHORT:
        return _read_text(value, hint)
    return _read_short_text(value, hint)


def _read_text(value: bytes, hint: str) -> Text:
    found: list[Finding] = []
    words = _words(value, found) if b"=?" in value else []
    # Who leaves octets raw beside a word means the set that the word names.
    near = next((one.label for one in words if one.charset not in ("", "utf-8")), hint)
    pieces: list[str] = []
    position = at = 0
    while at < len(words):
        first = words[at]
        between = value[position : first.start]
        if between.strip(b" \t\r\n") or not position:
            pieces.append(_plain(between, near, position, found))
        last = at + 1
        while (
            last < len(words)
            and words[last].charset == first.charset
            and not value[words[last - 1].end : words[last].start].strip(b" \t\r\n")
        ):
            last += 1
        joined = _joined(words[at:last], hint, found)
        if _CONTROL.search(joined):
            found.append(Finding(FindingKind.CONTROL_CHARACTER, first.start))
        pieces.append(joined)
        position = words[last - 1].end
        at = last
    pieces.append(_plain(value[position:], near, position, found))
    return Text(clean("".join(pieces)), tuple(found))


_read_short_text = lru_cache(maxsize=2048)(_read_text)


def clean(text: str) -> str:
    """Text on one line: control characters are blanks, halves of characters are marked."""
    if not text.isprintable():
        text = _CONTROL.sub(" ", text.replace(_MARK, "")).encode("utf-8", "replace").decode()
    return text.strip()


def shortened(text: str, octets: int) -> str:
    """The beginning of a cleaned text that has at most so many octets in UTF-8."""
    if text.isascii():
        return text[:octets]
    return text.encode()[:octets].decode("utf-8", "ignore")


def end_of_word(value: bytes, start: int, match: re.Match[bytes] | None = None) -> int:
    """The offset behind the encoded word that begins at `start`; -1 where none does."""
    match = match or WORD_START.match(value, start)
    if match is None:
        return -1
    following = _NEXT_OF_WORD.search(value, match.end())
    return following.end() if following is not None and following[1] else -1


def _words(value: bytes, found: list[Finding]) -> list[_Word]:
    words: list[_Word] = []
    starts = list(WORD_START.finditer(value))
    for number, match in enumerate(starts):
        limit = starts[number + 1].start() if number + 1 < len(starts) else len(value)
        end = value.find(_WORD_END, match.end(), limit)
        octets = None if end < 0 else _octets(match[2], value[match.end() : end])
        if octets is None:
            found.append(Finding(FindingKind.MALFORMED_WORD, match.start()))
            continue
        label = match[1].partition(b"*")[0].decode("ascii", "replace").lower()
        charset = charsets.codec_of(label) or ""
        words.append(_Word(match.start(), end + 2, label, charset, octets))
    return words


def _octets(encoding: bytes, text: bytes) -> bytes | None:
    """What a word's text stands for; None where it is not in that encoding."""
    if encoding in b"qQ":
        if b"\n" in text:
            text = _FOLD.sub(b" ", _SOFT_BREAK.sub(b"", text))
        text = text.replace(b"_", b" ")
        return _HEX.sub(lambda match: bytes((int(match[1], 16),)), text) if b"=" in text else text
    if (b"-" in text or b"_" in text) and b"+" not in text and b"/" not in text:
        text = text.translate(_OF_URLS)
    kept = _NOT_BASE64.sub(b"", text)
    if not kept.strip(b"="):
        return b"" if not text.strip() else None
    octets = b""
    # Some join pieces that were encoded, and padded, one by one.
    for match in _PADDED.finditer(kept):
        piece = match[1]
        if len(piece) % 4 == 1:
            piece = piece[:-1]
        octets += pybase64.b64decode(piece + b"=" * (-len(piece) % 4))
    return octets or None


def _joined(words: list[_Word], hint: str, found: list[Finding]) -> str:
    """Neighbours of one charset: each by itself, or together where a character, or the text
    between two escape sequences, was split."""
    decoded = [charsets.decode(word.octets, word.label, hint) for word in words]
    if len(words) > 1 and (
        any(one.doubt is FindingKind.CHARSET_MISMATCH for one in decoded)
        or any(_LEAVES_SET.match(word.octets) for word in words[1:])
    ):
        text = charsets.decode_strictly(b"".join([w.octets for w in words]), words[0].label)
        if text is not None:
            return text
    for word, (_, doubt) in zip(words, decoded, strict=True):
        if doubt is not None:
            found.append(Finding(doubt, word.start, word.label))
    return "".join([one.text for one in decoded])


def _plain(octets: bytes, hint: str, where: int, found: list[Finding]) -> str:
    if b"\n" in octets:
        octets = _FOLD.sub(b" ", octets)
    text, doubt = charsets.decode_unlabelled(octets, hint)
    if doubt is not None:
        found.append(Finding(doubt, where))
    return text
