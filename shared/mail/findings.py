"""What in a mail can be read in more than one way, or in part cannot be, in plain words.

A finding is no error: the mail was read, in the way that its reader documents. Other readers may
have read it differently, and an attacker chooses for whom a mail says what.
"""

from __future__ import annotations

from collections.abc import Iterable
from enum import StrEnum
from typing import Final, NamedTuple

#: How many findings are told of a mail, and how much of what each is about.
FINDING_LIMIT: Final = 50
DETAIL_LIMIT: Final = 80
#: Those that change what is read; a file name does not. "" stands for what has no name. A sender
#: makes up as many others as fit.
TELLING_PARAMETERS: Final = ("", "boundary", "charset", "protocol", "delsp", "format", "type")


class FindingKind(StrEnum):
    """The word of a finding; events and pages carry it as it stands here."""

    #: A carriage return without a line feed: some readers end the line there.
    BARE_CR = "bare-cr"
    NUL = "nul"
    #: A control character other than those two and the tabulator in a header block; any in an
    #: encoded word.
    CONTROL_CHARACTER = "control-character"
    DUPLICATE_FROM = "duplicate-from"
    DUPLICATE_CONTENT_TYPE = "duplicate-content-type"
    #: Another field that RFC 5322 section 3.6 or RFC 2045 allows once is there twice.
    DUPLICATE_FIELD = "duplicate-field"
    #: A line of a header block that is no field: no colon, or a name with other characters.
    MALFORMED_FIELD = "malformed-field"
    #: White space between a field's name and its colon (RFC 5322 section 4.5).
    SPACE_BEFORE_COLON = "space-before-colon"
    #: A folded line with nothing but white space: some readers end the header there.
    BLANK_FOLDED_LINE = "blank-folded-line"
    #: A header block longer than is read, or one that no empty line ends.
    HEADER_TOO_LONG = "header-too-long"
    #: A parameter twice, or plain and extended (RFC 2231) beside each other.
    DUPLICATE_PARAMETER = "duplicate-parameter"
    MALFORMED_PARAMETER = "malformed-parameter"
    #: A Content-Type or Content-Disposition that names no type.
    MALFORMED_CONTENT_TYPE = "malformed-content-type"
    #: The boundary in the extended form of RFC 2231, which few readers know for it.
    ENCODED_BOUNDARY = "encoded-boundary"
    #: A multipart without a boundary, or with one that RFC 2046 section 5.1.1 does not allow.
    MALFORMED_BOUNDARY = "malformed-boundary"
    #: A line that begins like a delimiter and is none, or a closing one with text behind it.
    DELIMITER_WITH_TAIL = "delimiter-with-tail"
    #: Text before the first or behind the last part of a multipart.
    TEXT_OUTSIDE_PARTS = "text-outside-parts"
    #: A multipart that its closing delimiter does not end.
    UNCLOSED_MULTIPART = "unclosed-multipart"
    #: A multipart or message whose content transfer encoding is another than 7bit, 8bit, binary.
    ENCODED_MULTIPART = "encoded-multipart"
    #: A content transfer encoding that nobody registered, or with more than its name.
    UNKNOWN_TRANSFER_ENCODING = "unknown-transfer-encoding"
    #: What a part has is not all in its transfer encoding (RFC 2045 section 6): other signs, an end
    #: before the end, half an octet. What can be decoded is.
    DAMAGED_TRANSFER_ENCODING = "damaged-transfer-encoding"
    #: A winmail.dat that is no TNEF, or ends within its message or an attachment: files may be
    #: missing. Where it ends behind a whole attachment nothing tells whether others followed.
    UNREADABLE_TNEF = "unreadable-tnef"
    #: More parts, or parts more deeply nested, than are looked at.
    TOO_MANY_PARTS = "too-many-parts"
    TOO_DEEP = "too-deep"
    #: A label of a character set that nobody knows, and octets that are none of what theirs says.
    UNKNOWN_CHARSET = "unknown-charset"
    CHARSET_MISMATCH = "charset-mismatch"
    #: What begins like an encoded word (RFC 2047) and cannot be read as one.
    MALFORMED_WORD = "malformed-encoded-word"
    #: An encoded word with a comma, an at sign, a bracket or a quote in it, in an address field:
    #: others take these for the field's own.
    SPECIALS_IN_WORD = "specials-in-encoded-word"
    #: An encoded word where an address belongs, or for a whole address field.
    WORD_FOR_ADDRESS = "encoded-word-for-address"
    #: A display name with a comma, a colon, an at sign or a square bracket outside quotes.
    UNQUOTED_NAME = "unquoted-name"
    #: A display name that says an address, and another one than the mail is from.
    ADDRESS_IN_NAME = "address-in-name"
    #: A quote, bracket or parenthesis without the other one.
    UNBALANCED_DELIMITER = "unbalanced-delimiter"
    #: Addresses with something other than a comma between them.
    ODD_SEPARATOR = "odd-separator"
    #: A name and no address, or what cannot be one.
    NAME_WITHOUT_ADDRESS = "name-without-address"
    MALFORMED_ADDRESS = "malformed-address"
    #: An address without brackets beside a name.
    MISSING_BRACKETS = "missing-brackets"
    #: White space, a comment or an odd dot within an address (RFC 5322 section 4.4).
    OBSOLETE_ADDRESS = "obsolete-address"
    #: A route before an address (RFC 5322 section 4.4): it is left out.
    SOURCE_ROUTE = "source-route"
    #: More addresses than are read.
    TOO_MANY_ADDRESSES = "too-many-addresses"
    #: No From, or one without an address; From with several addresses.
    MISSING_AUTHOR = "missing-author"
    SEVERAL_AUTHORS = "several-authors"
    #: A date that says no instant for certain; one in a form that RFC 5322 does not know; one
    #: without a zone, read as UTC.
    UNREADABLE_DATE = "unreadable-date"
    NONSTANDARD_DATE = "nonstandard-date"
    DATE_WITHOUT_ZONE = "date-without-zone"
    #: There are more findings than are told of; of each kind one is.
    MORE_FINDINGS = "more-findings"


class Finding(NamedTuple):
    """One finding. `where` is the offset, in octets, in the buffer or block that was read."""

    kind: FindingKind
    where: int
    #: What it is about: the name of a field or parameter, `preamble`, `epilogue`, `part 2.1`; may
    #: be empty.
    detail: str = ""


def first_of_each(findings: Iterable[Finding]) -> tuple[Finding, ...]:
    """The first of each kind about each thing, in their order, for what is told of a mail.

    At most `FINDING_LIMIT` of them: a sender can make as many as there are octets. Of more, one of
    each kind comes first, then a second of each; the last one says that some are left off.
    """
    found: dict[tuple[FindingKind, str], Finding] = {}
    for kind, where, detail in findings:
        key = kind, detail[:DETAIL_LIMIT]
        if key not in found:
            found[key] = Finding(kind, where, key[1])
    if len(found) <= FINDING_LIMIT:
        return tuple(found.values())
    of_kind: dict[FindingKind, int] = {}
    ranked: list[tuple[int, Finding]] = []
    for one in sorted(found.values(), key=lambda one: one.detail not in TELLING_PARAMETERS):
        of_kind[one.kind] = of_kind.get(one.kind, 0) + 1
        ranked.append((of_kind[one.kind], one))
    ranked.sort(key=lambda pair: pair[0])
    told = {one for _, one in ranked[: FINDING_LIMIT - 1]}
    first_left = next(one.where for one in found.values() if one not in told)
    kept = [one for one in found.values() if one in told]
    return (*kept, Finding(FindingKind.MORE_FINDINGS, first_left))
