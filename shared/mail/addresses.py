"""Addresses of a field: RFC 5322 section 3.4 with the obsolete forms of section 4.4, and as sent.

What stands between angle brackets is the address; a display name, quoted or not, encoded or not,
is decoded as a name and never read as an address. Where brackets are missing, the one word that
is an address is it; two such words are two addresses. Each octet is looked at a bounded number of
times, and nothing raises.
"""

from __future__ import annotations

import re
from functools import lru_cache
from typing import NamedTuple

from shared.mail import charsets
from shared.mail.encoded_words import WORD_START, read_text
from shared.mail.findings import Finding, FindingKind
from shared.mail.tokens import Token, tokens

#: Octets of one field, and addresses in it, that are read.
VALUE_LIMIT = 32 * 1024
ADDRESS_LIMIT = 100
#: Octets of one address (RFC 5321 section 4.5.3.1) and characters of a name.
_LONGEST_ADDRESS = 320
_LONGEST_NAME = 998
#: With comments and white space; what follows takes the square of it.
_LONGEST_CONTENT = 2000
_SHORT = 200

# Dots are among these, so nothing that takes them may be tried again in another way: the ways
# double with each dot.
_ATOM = rb"[^\s\x00-\x20\x7f\"(),:;<>@\[\]\\]++"
_QUOTED = re.compile(rb"\"(?:[^\"\\\x00-\x1f]|\\[ -~])*+\"")
_LOCAL = rb"(?:%b|%b)" % (_ATOM, _QUOTED.pattern)
_DOMAIN = rb"(?:%b|\[[^\[\]\\\s]*+\])" % _ATOM
_ADDR_SPEC = re.compile(rb"(%b++)@(%b)" % (_LOCAL, _DOMAIN))
#: With one quote for each quoted word.
_BETWEEN_DOTS = re.compile(rb'(?:[^"]+\.)?"(?:\.(?:[^"]+\.)?")*+(?:\.[^"]+)?')
_QUOTED_ATOM = re.compile(rb'"([A-Za-z0-9!#$%&\'*+/=?^_`{|}~.-]+)"')
_DOT_ATOM = re.compile(rb"[^.]+(?:\.[^.]+)*")
_AROUND = re.compile(rb"\s*([.@])\s*")
_COMMENT = re.compile(rb"\((?:[^()\\]|\\.)*+\)", re.DOTALL)
_QUOTED_PAIR = re.compile(rb"\\(.)", re.DOTALL)
_LOOKS_LIKE_ADDRESS = re.compile(r"[^\s<>()\[\]\",;:@]+@[^\s<>()\[\]\",;:@]+")
_SPECIALS = re.compile(rb"[<>,\"@();:]")
_NAME = rb"[A-Za-z0-9!#$%&'*+/^_`{|}~. -]*"
_SIMPLE_ATOM = rb"[A-Za-z0-9!#$%&'*+/^_`{|}~=-]+(?:\.[A-Za-z0-9!#$%&'*+/^_`{|}~=-]+)*"
_SIMPLE = re.compile(
    rb"\s*+(?:(?!\.)(%b)<(%b@%b)>|(%b@%b))\s*" % (_NAME, *[_SIMPLE_ATOM] * 4)
)  # fmt: skip

_PATH = re.compile(rb"[ \t]*+<(%b@%b)>[ \t]*+" % (_SIMPLE_ATOM, _SIMPLE_ATOM))


class Address(NamedTuple):
    """A display name, decoded (empty where there is none), and an addr-spec as it was sent."""

    name: str
    address: str


class AddressList(NamedTuple):
    """The addresses of one field in their order.

    `unaddressed` is the first name that had no address; offsets of findings are in the value.
    """

    addresses: tuple[Address, ...] = ()
    findings: tuple[Finding, ...] = ()
    unaddressed: str = ""


def read_addresses(value: bytes, hint: str = "") -> AddressList:
    """An address list as it lies in a field, folded or not; `hint` as of
    `encoded_words.read_text`."""
    if len(value) <= _SHORT:  # the mails of a mailbox are mostly to the same few
        return _read_again(value, hint)
    return _read(value, hint)


def read_path(value: bytes) -> str:
    """The first address of a field that mostly holds one in angle brackets; "" where none is.

    Another one in every mail, as return paths are, so that none is remembered.
    """
    if (match := _PATH.fullmatch(value)) and len(match[1]) <= _LONGEST_ADDRESS:
        return match[1].decode("ascii")
    found = read_addresses(value).addresses
    return found[0].address if found else ""


def _read(value: bytes, hint: str) -> AddressList:
    if b'"' not in value and b"(" not in value and len(value) <= VALUE_LIMIT:
        # What nearly every sender writes costs a tenth of the full grammar.
        if (match := _SIMPLE.fullmatch(value)) and len((one := _of_simple(match)).address) <= (
            _LONGEST_ADDRESS
        ):
            return AddressList((one,))
        simple = [_SIMPLE.fullmatch(part) for part in value.split(b",", ADDRESS_LIMIT)]
        if len(simple) <= ADDRESS_LIMIT and all(simple):
            found = [_of_simple(match) for match in simple if match]
            if all(len(one.address) <= _LONGEST_ADDRESS for one in found):
                return AddressList(tuple(found))
    plain = charsets.without_delimiters(value[:VALUE_LIMIT], hint)
    if plain == value[:VALUE_LIMIT]:
        return _AddressReader(value, hint).read()
    reader = _AddressReader(plain + value[VALUE_LIMIT:], hint)
    reader.say(FindingKind.CHARSET_MISMATCH, 0)
    return reader.read()


_read_again = lru_cache(maxsize=4096)(_read)


def _of_simple(match: re.Match[bytes]) -> Address:
    name, bracketed, bare = match.groups()
    if bare is not None:
        return Address("", bare.decode("ascii"))
    return Address(
        " ".join(name.decode("ascii").split())[:_LONGEST_NAME], bracketed.decode("ascii")
    )


class _AddressPiece(NamedTuple):
    """Of a display name: `kind` as of a token; `octets` as they enter the name."""

    kind: str
    octets: bytes
    raw: bytes


class _AddressReader:
    """Reads one list: tokens are collected into a mailbox, which a separator ends."""

    def __init__(self, value: bytes, hint: str) -> None:
        self.value = value[:VALUE_LIMIT]
        self.cut = len(value) > VALUE_LIMIT
        self.hint = hint
        self.found: list[Address] = []
        self.findings: dict[tuple[FindingKind, str], Finding] = {}
        self.unaddressed = ""
        self.phrase: list[_AddressPiece] = []
        self.comments: list[bytes] = []
        self.angles: list[tuple[bytes, list[_AddressPiece]]] = []
        self.waiting: list[bytes] = []
        self.start = 0

    def read(self) -> AddressList:
        listed = list(tokens(self.value, self.say))
        semicolons = sum(token.kind == ";" for token in listed)
        in_group = False
        for token in listed:
            if len(self.found) >= ADDRESS_LIMIT:
                self.say(FindingKind.TOO_MANY_ADDRESSES, token.start)
                break
            if token.kind == ";":
                semicolons -= 1
                if not in_group:
                    self.say(FindingKind.ODD_SEPARATOR, token.start, ";")
                self.end_mailbox(token, joins=False)
                in_group = False
            elif token.kind == ",":
                self.end_mailbox(token, joins=True)
            elif token.kind == ":" and semicolons and not in_group and not self.angles:
                self.phrase, self.comments, self.waiting = [], [], []
                in_group = True
            else:
                self.take(token)
        else:
            if not self.cut:
                self.end_mailbox(None, joins=False)
        if self.cut or len(self.found) > ADDRESS_LIMIT:
            self.say(FindingKind.TOO_MANY_ADDRESSES, len(self.value))
        self.end_waiting(len(self.value))
        findings = sorted(self.findings.values(), key=lambda one: one.where)
        found = tuple(self.found[:ADDRESS_LIMIT])
        return AddressList(found, tuple(findings), self.unaddressed)

    def say(self, kind: FindingKind, where: int, detail: str = "") -> None:
        if (kind, detail) not in self.findings:
            self.findings[kind, detail] = Finding(kind, where, detail)

    def take(self, token: Token) -> None:
        if not self.phrase and not self.angles and not self.comments:
            self.start = token.start
        raw = self.value[token.start : token.end]
        if token.kind == "comment":
            self.comments.append(_QUOTED_PAIR.sub(rb"\1", raw[1:-1]))
        elif token.kind == "<":
            self.angles.append((raw.strip(b"<>"), self.phrase))
            self.phrase = []
        elif token.kind == "quoted":
            self.phrase.append(_AddressPiece("quoted", _QUOTED_PAIR.sub(rb"\1", raw[1:-1]), raw))
        elif token.kind == "space":
            self.phrase.append(_AddressPiece("space", b" ", b" "))
        elif token.kind == "gap":  # reads as a space, but joins nothing
            self.phrase.append(_AddressPiece("space", b" ", b"\0"))
        elif token.kind == "word":
            if _SPECIALS.search(raw):
                self.say(FindingKind.SPECIALS_IN_WORD, token.start)
            self.phrase.append(_AddressPiece("word", raw, raw))
        elif token.kind == ":":
            self.say(FindingKind.UNQUOTED_NAME, token.start, ":")
            self.phrase.append(_AddressPiece(":", raw, raw))
        else:
            self.phrase.append(_AddressPiece("text", raw, raw))

    def end_mailbox(self, separator: Token | None, *, joins: bool) -> None:
        """What was collected is one mailbox (or, where a comma was not quoted, a part of one)."""
        phrase, angles, comments = self.phrase, self.angles, self.comments
        self.phrase, self.angles, self.comments = [], [], []
        where = self.start
        if angles:
            self.end_bracketed(phrase, angles, comments, where)
        elif any(piece.kind != "space" for piece in phrase):
            if self.end_bare(phrase, comments, where):
                return
            # A name alone: the comma behind it was perhaps its own (`Doe, Jane <j@x>`).
            self.waiting.append(b"".join([piece.octets for piece in phrase]).strip())
        if not joins or angles:
            self.end_waiting(where)
        self.start = separator.end if separator else len(self.value)

    def end_waiting(self, where: int) -> None:
        """Names that no address came behind."""
        if not self.waiting:
            return
        octets = b", ".join(self.waiting)[:VALUE_LIMIT]
        text = " ".join(read_text(octets, self.hint).text.split())
        self.waiting = []
        in_word = WORD_START.search(octets) and "@" in text
        self.say(
            FindingKind.WORD_FOR_ADDRESS if in_word else FindingKind.NAME_WITHOUT_ADDRESS, where
        )
        self.unaddressed = self.unaddressed or text[:_LONGEST_NAME]

    def end_bracketed(
        self,
        behind: list[_AddressPiece],
        angles: list[tuple[bytes, list[_AddressPiece]]],
        comments: list[bytes],
        where: int,
    ) -> None:
        read: list[tuple[str, list[_AddressPiece]]] = []
        phrases = [phrase for _, phrase in angles]
        for content, phrase in angles:
            address = self.addr_spec(content, where)
            if address:
                read.append((address, phrase))
            elif several := self.several(content, where):
                read += zip(several, (phrase, *[[]] * (len(several) - 1)), strict=True)
            elif content.strip():
                self.say(FindingKind.MALFORMED_ADDRESS, where)
        if len(angles) > 1 or any(piece.kind != "space" for piece in behind):
            self.say(FindingKind.ODD_SEPARATOR, where)
        if not read:
            self.waiting.append(b"".join([p.octets for one in (*phrases, behind) for p in one]))
            return
        for char in (b"@", b"[", b"]"):
            if any(p.kind == "text" and char in p.raw for one in (*phrases, behind) for p in one):
                self.say(FindingKind.UNQUOTED_NAME, where, char.decode("ascii"))
        if next((p.raw[:1] == b"." for p in phrases[0] if p.kind != "space"), False):
            self.say(FindingKind.UNQUOTED_NAME, where, ".")
        if len(read) == 1:
            read = [(read[0][0], [piece for one in (*phrases, behind) for piece in one])]
        for address, phrase in read:
            self.add(address, phrase, comments, where)

    def end_bare(self, phrase: list[_AddressPiece], comments: list[bytes], where: int) -> bool:
        """A mailbox without brackets; False where no word of it is an address."""
        if not any(b"@" in piece.raw and piece.kind == "text" for piece in phrase):
            return False
        whole = b"".join([piece.raw for piece in phrase])
        if not any(piece.kind in ("word", ":") for piece in phrase):
            address = self.addr_spec(whole, where)
            if address:
                self.add(address, [], comments, where)
                return True
        addresses: list[str] = []
        rest: list[_AddressPiece] = []
        for run in _runs(phrase):
            address = ""
            if any(b"@" in piece.raw for piece in run) and run[0].kind not in ("word", ":"):
                address = self.addr_spec(b"".join([piece.raw for piece in run]), where)
            if address:
                addresses.append(address)
            else:
                rest += run
        if not addresses:
            return False
        self.say(
            FindingKind.ODD_SEPARATOR if len(addresses) > 1 else FindingKind.MISSING_BRACKETS, where
        )
        for address in addresses:
            self.add(address, rest if len(addresses) == 1 else [], comments, where)
        return True

    def several(self, content: bytes, where: int) -> list[str]:
        """The addresses of a list that stands in one pair of brackets; empty where it is none."""
        if len(content) > _LONGEST_CONTENT or (b"," not in content and b";" not in content):
            return []
        pieces = [piece for piece in re.split(b"[,;]", content) if piece.strip()]
        matches = [_SIMPLE.fullmatch(piece) for piece in pieces[: ADDRESS_LIMIT + 1]]
        found = [match[3].decode("ascii") for match in matches if match and match[3]]
        if len(found) < len(matches) or len(found) > ADDRESS_LIMIT:
            return []
        self.say(FindingKind.ODD_SEPARATOR, where)
        return found

    def addr_spec(self, content: bytes, where: int) -> str:
        """The address that `content` is; "" where it is none, or more than one."""
        content = content.strip()
        if len(content) > _LONGEST_CONTENT:
            return ""
        if b"(" in content:
            content = _COMMENT.sub(b" ", content).strip()
            self.say(FindingKind.OBSOLETE_ADDRESS, where)
        if content[:1] == b"@" and b":" in content:
            self.say(FindingKind.SOURCE_ROUTE, where)
            content = content.rpartition(b":")[2].strip()
        elif content[:7].lower() == b"mailto:":
            self.say(FindingKind.MALFORMED_ADDRESS, where, "mailto:")
            content = content[7:]
        if WORD_START.search(content):
            self.say(FindingKind.WORD_FOR_ADDRESS, where)
            return ""
        match = _addr_spec(content)
        if match is None and b'"' not in content:
            squeezed = _AROUND.sub(rb"\1", content)
            match = None if squeezed[-1:] == b"." else _addr_spec(squeezed)
            if match:
                self.say(FindingKind.OBSOLETE_ADDRESS, where)
        if match is None or len(content) > _LONGEST_ADDRESS:
            return ""
        local, domain = match.groups()
        quoted = _QUOTED_ATOM.fullmatch(local)
        if quoted and _DOT_ATOM.fullmatch(quoted[1]):
            local = quoted[1]
        elif local[:1] != b'"' and not _DOT_ATOM.fullmatch(local):
            self.say(FindingKind.OBSOLETE_ADDRESS, where)
        if domain[:1] != b"[" and not _DOT_ATOM.fullmatch(domain):
            self.say(FindingKind.OBSOLETE_ADDRESS, where)
        text, doubt = charsets.decode_unlabelled(local + b"@" + domain, self.hint)
        if doubt is not None:
            self.say(FindingKind.MALFORMED_ADDRESS, where)
        return text

    def add(
        self, address: str, phrase: list[_AddressPiece], comments: list[bytes], where: int
    ) -> None:
        octets = b"".join([piece.octets for piece in phrase]).strip()
        if self.waiting:
            if octets:
                octets = b", ".join((*self.waiting, octets))[:VALUE_LIMIT]
                self.waiting = []
                self.say(FindingKind.UNQUOTED_NAME, where, ",")
            else:
                self.end_waiting(where)
        if not octets:
            octets = b" ".join(comments)
        name, found = read_text(octets, self.hint) if octets else ("", ())
        for one in found:
            self.say(one.kind, where, one.detail)
        said = [one.casefold() for one in _LOOKS_LIKE_ADDRESS.findall(name[: 2 * _LONGEST_NAME])]
        if any(one.strip("'.") != address.casefold() for one in said):
            self.say(FindingKind.ADDRESS_IN_NAME, where)
        self.found.append(Address(" ".join(name.split())[:_LONGEST_NAME].strip(), address))


def lowered(address: str) -> str:
    """An address to compare: the letters of ASCII in lower case, and no others, since some of those
    become letters of ASCII (the Kelvin sign is a k)."""
    return address.encode("utf-8", "replace").lower().decode("utf-8")


def _addr_spec(content: bytes) -> re.Match[bytes] | None:
    """(local part, domain); words of the local part that are quoted stand between dots."""
    match = _ADDR_SPEC.fullmatch(content)
    if match and b'"' in match[1] and not _BETWEEN_DOTS.fullmatch(_QUOTED.sub(b'"', match[1])):
        return None
    return match


def _runs(phrase: list[_AddressPiece]) -> list[list[_AddressPiece]]:
    """Pieces with nothing between them, each run by itself, as are spaces, words and colons."""
    runs: list[list[_AddressPiece]] = []
    before = ""
    for piece in phrase:
        if piece.kind in ("text", "quoted") and before in ("text", "quoted"):
            runs[-1].append(piece)
        else:
            runs.append([piece])
        before = piece.kind
    return runs
