"""Who wrote a mail, as far as every reader agrees on it.

A signature is worth what the shown author is worth: readers that differ on From are where an
attacker puts one name for people and another for the check. So this grammar is narrow (a mailbox
of RFC 5322 section 3.4 without its obsolete forms), and what it does not take has no author.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable
from typing import NamedTuple

from shared.mail.addresses import lowered, read_addresses
from shared.mail.comparable_addresses import comparable
from shared.mail.encoded_words import read_text
from shared.mail.fields import HeaderBlock
from shared.mail.findings import FindingKind
from shared.mail_security import Signature

_ATOM = r"[^\x00-\x20\x7f()<>\[\]:;@\\,.\"]++"
_ADDRESS = rf"{_ATOM}(?:\.{_ATOM})*+@{_ATOM}(?:\.{_ATOM})*+"
_QUOTED = r'"(?:[^"\\\x00-\x08\x0a-\x1f\x7f]|\\[\x20-\x7e])*+"'
_COMMENT = r"\([^()\\<>@,;:\"\x00-\x08\x0a-\x1f\x7f]*+\)"
_NAME = rf"(?:(?:{_QUOTED}|{_COMMENT}|{_ATOM}|\.)[ \t]*+)*+"
#: Python's `email` reads no field with a dot straight before the bracket.
_ANGLED = re.compile(rf"(?P<name>{_NAME})(?<!\.)<(?P<address>{_ADDRESS})>")
#: Its own address is no name by the grammar, but programs write it as one where they know no other;
#: whichever of the two a reader takes is the same.
_TWICE = re.compile(rf"(?P<name>{_ADDRESS})[ \t]++<(?P<address>(?P=name))>")
_PLAIN = re.compile(rf"(?P<address>{_ADDRESS})(?P<name>[ \t]++{_COMMENT})?")
_LONGEST = 1000
#: "Jane @ Corp", in lower case: no part of an address, for no dot of any script comes behind it.
_AT_A_PLACE = re.compile(
    r"(?<=\S )@(?= [a-z0-9\u00df-\u024f\u0430-\u045f\u3041-\u3096\u30a1-\u30fa\u4e00-\u9fff"
    r"\uac00-\ud7a3 &'-]+\"?\s*\Z)"
)
#: The joiners of ZWJ sequences (emoji) and of the scripts of Persia and India, in their place.
_JOINERS = re.compile("(?<=[^\x00-\x7f])[\u200c\u200d](?=[^\x00-\x7f])")
#: Findings about the header that leave open who the author is.
_AMBIGUOUS = (
    FindingKind.BARE_CR,
    FindingKind.NUL,
    FindingKind.CONTROL_CHARACTER,
    FindingKind.MALFORMED_FIELD,
    FindingKind.BLANK_FOLDED_LINE,
    FindingKind.HEADER_TOO_LONG,
    # The header of some readers ends there.
    FindingKind.SPACE_BEFORE_COLON,
)
#: What shows nothing and is not a control or format character for every Python that runs this:
#: Default_Ignorable_Code_Point (Unicode, DerivedCoreProperties.txt) but for variation selectors,
#: which emoji and names have; the controls that came with Unicode 15; the empty sign of Braille.
_SHOWS_NOTHING = re.compile(
    "[\u034f\u115f\u1160\u17b4\u17b5\u2065\u2800\u3164\uffa0\ufff0-\ufff8"
    "\U00013430-\U0001343f\U000e0000-\U000e00ff\U000e01f0-\U000e0fff]"
)
_INVISIBLE = (
    FindingKind.CONTROL_CHARACTER,
    FindingKind.MALFORMED_WORD,
    FindingKind.UNKNOWN_CHARSET,
)
#: Fields whose doubling or odd spelling leaves open who wrote what.
_TELLING = frozenset(
    ("from", "sender", "reply-to", "subject", "date", "mime-version", "content-type",
     "content-transfer-encoding", "content-disposition")
)  # fmt: skip
#: Gateways write it a second time; where both say the same, no reader can read another one.
_SAYS_THE_SAME = ("mime-version",)
_ODD = (
    FindingKind.DUPLICATE_FROM,
    FindingKind.DUPLICATE_CONTENT_TYPE,
    FindingKind.DUPLICATE_FIELD,
)


class Author(NamedTuple):
    """`address` is the one address of From, in lower case; None where no reader may rely on it.

    `problem` is the word of the verdict then, and `reason` a sentence.
    """

    address: str | None
    problem: Signature = "none"
    reason: str = ""


def read_author(outer: HeaderBlock, protected: Iterable[HeaderBlock]) -> Author:
    """The author that the header of the mail shows and that no protected header contradicts."""
    author = _author(outer, "The header")
    for inner in protected:
        if not inner.fields:
            continue
        if author.problem == "none" and (doubt := ambiguity(inner)):
            author = Author(None, "ambiguous", f"The signed header is ambiguous: {doubt}.")
        if author.problem == "none" and inner.first("from") is not None:
            found = _author(inner, "The signed header")
            if found.problem != "none":
                author = found
            elif not is_one_of(found.address, (author.address or "",)):
                author = Author(
                    None,
                    "mismatch",
                    f"The mail says that it is from {author.address}, "
                    f"what was signed says that it is from {found.address}.",
                )
    return author


def is_one_of(address: str | None, known: Iterable[str]) -> bool:
    """Whether an author is one of the addresses of a signer: the same local part (letters of ASCII
    in either case), and the same domain, in letters or as DNS has it (RFC 9598 section 5)."""
    return address is not None and _comparable(address) in map(_comparable, known)


def _comparable(address: str) -> tuple[str, str]:
    local, _, domain = address.rpartition("@")
    return local, comparable("@" + domain)


def ambiguity(header: HeaderBlock) -> str:
    """What in a header block leaves open what it says, as the words of its findings."""
    kinds = [
        one.kind
        for one in header.findings
        if one.kind in _AMBIGUOUS
        or (one.kind in _ODD and one.detail in _TELLING and not _says_the_same(header, one.detail))
    ]
    return ", ".join(dict.fromkeys(kinds))


def _says_the_same(header: HeaderBlock, name: str) -> bool:
    return name in _SAYS_THE_SAME and len({one.unfolded for one in header.all(name)}) == 1


def _author(header: HeaderBlock, where: str) -> Author:
    doubt = ambiguity(header)
    if doubt:
        return Author(None, "ambiguous", f"{where} of the mail is ambiguous: {doubt}.")
    field = header.first("from")
    if field is None:
        return Author(None, "mismatch", f"{where} of the mail names no author.")
    raw = field.unfolded
    try:
        text = raw.decode("utf-8")
    except UnicodeDecodeError:
        text = ""
    match = None
    if len(text) <= _LONGEST:
        match = _ANGLED.fullmatch(text) or _TWICE.fullmatch(text) or _PLAIN.fullmatch(text)
    if match is None or any(map(_is_no_sign, match["address"])):
        several = raw.count(b"@") > 1 and b"," in raw
        return Author(
            None,
            "mismatch" if several else "ambiguous",
            f"{where} of the mail names several authors."
            if several
            else f"Not every reader reads the author of the mail alike: {_decoded(raw)}",
        )
    address = lowered(match["address"])
    name, doubts = read_text((match["name"] or "").encode())
    # Some letters look like others, and are the same for a reader who folds them.
    plain = _AT_A_PLACE.sub("", unicodedata.normalize("NFKC", name).lower())
    # Outlook writes an address that it shows for a name between apostrophes.
    if "@" in plain and not {*_addresses_in(plain)} <= {address, f"'{address}'"}:
        return Author(None, "mismatch", f"The name of the author shows another address: {name}")
    if any(map(_is_invisible, _JOINERS.sub("", text + name))) or any(
        one.kind in _INVISIBLE for one in doubts
    ):
        return Author(None, "ambiguous", "The name of the author holds invisible characters.")
    # What the event, the ledger and the pages show.
    if [lowered(one.address) for one in read_addresses(raw).addresses] != [address]:
        return Author(
            None, "ambiguous", f"Not every reader reads the author alike: {_decoded(raw)}"
        )
    return Author(address)


def _is_invisible(character: str) -> bool:
    if unicodedata.category(character) in ("Cc", "Cf", "Zl", "Zp"):
        return character != "\t"
    return _SHOWS_NOTHING.match(character) is not None


def _is_no_sign(character: str) -> bool:
    """What no address is shown with. A letter that is newer than the Python that runs this is a
    letter: `isprintable` would say of a mail what the next Python does not."""
    return unicodedata.category(character) in ("Zs", "Co", "Cs") or _is_invisible(character)


def _addresses_in(text: str) -> list[str]:
    """What looks like an address; "@" for an at sign that belongs to none."""
    found = re.findall(_ADDRESS, text)
    return [*found, *["@"] * (text.count("@") - len(found))]


def _decoded(raw: bytes) -> str:
    return raw[:200].decode("utf-8", "replace")
