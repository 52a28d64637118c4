"""Lines of IMAP with names, ids and mails replaced: only what is known to tell nothing stays."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Final

from imapclient import imap_utf7

from shared.mailbox.doctor.examination import NOBODYS
from shared.mailbox.doctor.pseudonyms import Pseudonyms, challenge
from shared.mailbox.doctor.stand_in_mails import header_of, mail_of
from shared.mailbox.imap.folder_names import decode_name

_LITERAL: Final = re.compile(rb"\{(\d{1,20})\+?\}\r?\n")
_GMAIL_LABELS: Final = re.compile(rb"X-GM-LABELS +\(", re.I)
_NAME: Final = re.compile(rb'("(?:[^"\\]|\\.)*"|\{\d+\+?\}\r\n|[^ ()"{]+)')
_UNTAGGED: Final = re.compile(rb"\* +(?:(\d+) +)?([A-Za-z0-9._-]+) *", re.I)
_STATUS: Final = re.compile(
    rb"(TAG|\*) +(OK|NO|BAD|BYE|PREAUTH)\b *(?:\[([^\]\r\n]*)\])? *(.*)", re.I | re.S
)
_PLAIN_CODES: Final = frozenset(
    (  # noqa: SIM905 (a list of words reads better)
        "READ-ONLY READ-WRITE UIDVALIDITY UIDNEXT HIGHESTMODSEQ NOMODSEQ UNSEEN TRYCREATE ALERT "
        "CAPABILITY PERMANENTFLAGS AUTHENTICATIONFAILED AUTHORIZATIONFAILED UNAVAILABLE INUSE "
        "LIMIT EXPIRED PRIVACYREQUIRED CONTACTADMIN NOPERM CANNOT SERVERBUG CLIENTBUG OVERQUOTA "
        "NONEXISTENT ALREADYEXISTS CORRUPTION EXPUNGEISSUED PARSE CLOSED MESSAGELIMIT"
    ).split()
)
#: Words that namespaces and levels have everywhere.
_COMMON: Final = frozenset(
    {"INBOX", "USER", "USERS", "OTHER USERS", "SHARED", "PUBLIC", "#SHARED", NOBODYS.upper()}
)
_NUMBERS_ONLY: Final = re.compile(r"[\d :,*]*$")
#: Flags of RFC 3501 and the keywords that IANA lists; any other is a word of somebody.
_SYSTEM_FLAG: Final = re.compile(
    rb"\\(?:Seen|Answered|Flagged|Deleted|Draft|Recent|\*)$|\$(?:Forwarded|MDNSent|Submit(?:Pending|ted)"
    rb"|Junk|NotJunk|Phishing|Important|Label\d|hasAttachment|hasNoAttachment|MailFlagBit\d|memo|muted"
    rb"|followed|notify|unsubscribed|canunsubscribe|istrusted|maskedemail|autosent|new|imported)$",
    re.I,
)
_ONE_NAMESPACE: Final = re.compile(
    rb'\(("(?:[^"\\]|\\.)*") +("(?:[^"\\]|\\.)*"|NIL)'
    rb'(?: +(?:"(?:[^"\\]|\\.)*"|\([^()]*\)))*\)'
)


class ImapLines:
    """Takes every line of every session, in order."""

    def __init__(self, names: Pseudonyms, username: str) -> None:
        self._names = names
        self._user = names.user(username)
        self._mails: dict[bytes, int] = {}

    # ---- ours

    def ours(self, line: bytes, verb: str) -> bytes:
        """A command (without its tag), or what goes on with one."""
        if verb == "LOGIN":
            return f'LOGIN "{self._user}" "password"\r\n'.encode()
        if verb == "AUTHENTICATE":
            return b" ".join(line.split()[:2]) + b"\r\n"
        if verb in ("LIST", "STATUS", "EXAMINE", "SELECT"):
            return self._with_name(line, verb)
        return line

    def ours_later(self, line: bytes, verb: str) -> bytes:
        """A line behind a command: an answer to a challenge, or DONE."""
        return line if verb == "IDLE" else b"***\r\n"

    def _with_name(self, line: bytes, verb: str) -> bytes:
        start = len(b'LIST "" ') if verb == "LIST" else len(verb) + 1
        name, end = _string_at(line, start)
        if verb == "LIST" and name in (b"", b"*"):
            return line
        return line[:start] + _quoted(self.folder(name)) + line[end:]

    # ---- the server's

    def greeting(self, line: bytes) -> bytes:
        return self._status(line, keep=True) or b"* OK ready\r\n"

    def theirs(self, line: bytes, verb: str) -> bytes:
        """A line of the server with its literals."""
        if line.startswith(b"+"):
            told = challenge(self._names, line[1:].strip().decode("latin-1"))
            return f"+ {told if verb == 'AUTHENTICATE' else 'ok'}\r\n".encode()
        status = self._status(line)
        if status is not None:
            return status
        match = _UNTAGGED.match(line)
        if match is None:
            return b"* X-UNKNOWN\r\n"
        keyword, rest = match[2].upper(), line[match.end() :]
        head = line[: match.end()]
        change = self._BY_KEYWORD.get(keyword)
        return b"* X-UNKNOWN\r\n" if change is None else head + change(self, rest)

    def _status(self, line: bytes, *, keep: bool = False) -> bytes | None:
        match = _STATUS.match(line)
        if match is None:
            return None
        word, code = match[2].upper(), (match[3] or b"").decode("latin-1")
        words = match[4].strip().decode("utf-8", "replace")
        shown = self._names.words(words) if keep or word in (b"NO", b"BAD", b"BYE") else "done"
        inside = self._code(code)
        between = f"[{inside}] " if inside else ""
        return match[1] + b" " + word + b" " + f"{between}{shown}\r\n".encode()

    def _code(self, code: str) -> str:
        name, _, rest = code.partition(" ")
        if name.upper() == "MAILBOXID":
            return f"{name} ({self._names.of('id', rest.strip('()'))})"
        if name.upper() not in _PLAIN_CODES:
            return ""
        if name.upper() == "PERMANENTFLAGS":
            return f"{name} {self._flags(rest.encode()).decode('latin-1')}"
        if name.upper() == "CAPABILITY":
            return f"{name} {self._capability(rest.encode('latin-1')).decode('latin-1').strip()}"
        if not rest or _NUMBERS_ONLY.match(rest):
            return code
        return name

    def _flags(self, text: bytes) -> bytes:
        def kept(match: re.Match[bytes]) -> bytes:
            word = match[0]
            if _SYSTEM_FLAG.match(word):
                return word
            return self._names.of("keyword", word.decode("latin-1")).encode()

        return re.sub(rb"[^ ()\r\n]+", kept, text)

    def _plain(self, rest: bytes) -> bytes:
        return rest

    def _capability(self, rest: bytes) -> bytes:
        kept = [word for word in rest.split() if not re.search(rb"@|://|=.*[.]\w", word)]
        return b" ".join(kept) + b"\r\n"

    def _list(self, rest: bytes) -> bytes:
        match = re.match(rb'(\([^)]*\) +(?:"(?:[^"\\]|\\.)*"|NIL) +)', rest, re.I)
        if match is None:
            return b'() "/" unreadable\r\n'
        name, _ = _string_at(rest, match.end())
        return match[1] + _quoted(self.folder(name)) + b"\r\n"

    def _folder_status(self, rest: bytes) -> bytes:
        name, end = _string_at(rest, 0)
        items = re.sub(
            rb"(MAILBOXID \()([^)]*)",
            lambda m: m[1] + self._names.of("id", m[2].decode("latin-1")).encode(),
            rest[end:],
        )
        return _quoted(self.folder(name)) + items

    def _namespace(self, rest: bytes) -> bytes:
        if _LITERAL.search(rest) is not None:
            return b"NIL NIL NIL\r\n"
        # A namespace is (prefix delimiter …); what extensions put behind tells nobody anything.
        return _ONE_NAMESPACE.sub(
            lambda m: b'("' + self.folder(m[1][1:-1]) + b'" ' + m[2] + b")", rest
        )

    def _id(self, rest: bytes) -> bytes:
        told = re.findall(rb'"((?:[^"\\]|\\.)*)"', rest)
        pairs = dict(zip(told[::2], told[1::2], strict=False))
        kept = [
            b'"%s" "%s"' % (key, self._names.words(value.decode("utf-8", "replace")).encode())
            for key, value in pairs.items()
            if key.lower() in (b"name", b"vendor", b"version")
        ]
        return b"(" + b" ".join(kept) + b")\r\n" if kept else b"NIL\r\n"

    def _search(self, rest: bytes) -> bytes:
        return re.sub(rb'\(TAG "[^"]*"\)', b'(TAG "TAG")', rest)

    def _fetch(self, rest: bytes) -> bytes:
        uid = re.search(rb"UID (\d+)", rest)
        number = self._mails.setdefault(uid[1] if uid else b"", len(self._mails) + 1)
        out, at = b"", 0
        while True:
            literal = _LITERAL.search(rest, at)
            labels = _GMAIL_LABELS.search(rest, at, literal.start() if literal else len(rest))
            if labels is not None:
                told, end = self._labels(rest, labels.end())
                out, at = out + self._items(rest[at : labels.end()]) + told, end
                continue
            if literal is None:
                return out + self._items(rest[at:])
            size = int(literal[1])
            head = b"HEADER" in rest[at : literal.start()].upper()
            made = header_of(size, number) if head else mail_of(size, number)
            out += self._items(rest[at : literal.start()]) + literal[0] + made
            at = literal.end() + size

    def _items(self, text: bytes) -> bytes:
        text = re.sub(rb"(FLAGS )(\([^)]*\))", lambda m: m[1] + self._flags(m[2]), text)
        text = re.sub(
            rb"(X-GM-(?:MSGID|THRID) )(\d+)",
            lambda m: m[1] + self._names.number("gmail", m[2].decode()).encode(),
            text,
        )
        text = re.sub(
            rb"((?:EMAIL|THREAD)ID \()([^)]*)",
            lambda m: m[1] + self._names.of("id", m[2].decode("latin-1")).encode(),
            text,
        )
        # Of what is quoted only dates may stay.
        return re.sub(
            rb'((?:INTERNAL|SAVE)DATE "[-+\w: ]{20,30}")|"(?:[^"\\]|\\.)*"',
            lambda m: m[1] or b'"replaced"',
            text,
        )

    def _labels(self, rest: bytes, at: int) -> tuple[bytes, int]:
        """(Gmail's labels from there on, and where they end). Its own begin with a backslash; the
        others are words of people."""
        told = []
        while at < len(rest) and rest[at : at + 1] != b")":
            word, end = _string_at(rest, at)
            at = max(end, at + 1)
            if re.fullmatch(rb"\\[A-Za-z]+", word):
                told.append(word)
            elif word:
                told.append(b'"' + self._names.of("label", word.decode("latin-1")).encode() + b'"')
        return b" ".join(told), at

    # ---- folders

    def folder(self, name: bytes) -> bytes:
        """A folder's name as the server has it, level by level; its kind of spelling stays."""
        return b"".join(
            part if part in b"./\\" or not part else self._level(part)
            for part in re.split(rb"([./\\])", name)
        )

    def _level(self, part: bytes) -> bytes:
        if part.decode("latin-1").upper() in _COMMON or part in (b"*", b"%"):
            return part
        star = b"*" if part.endswith(b"*") else b""
        bare = part.removesuffix(b"*")
        made = replaced_level(self._names, decode_name(bare))
        return (made.encode() if not bare.isascii() else bytes(imap_utf7.encode(made))) + star

    _BY_KEYWORD: Final[dict[bytes, Callable[[ImapLines, bytes], bytes]]] = {
        b"CAPABILITY": _capability,
        b"LIST": _list,
        b"STATUS": _folder_status,
        b"NAMESPACE": _namespace,
        b"ID": _id,
        b"FLAGS": lambda self, rest: self._flags(rest),
        b"SEARCH": _search,
        b"ESEARCH": _search,
        b"FETCH": _fetch,
        b"EXISTS": _plain,
        b"RECENT": _plain,
        b"EXPUNGE": _plain,
        b"VANISHED": _plain,
        b"ENABLED": _plain,
    }


def replaced_level(names: Pseudonyms, level: str) -> str:
    """One level of a folder's name as people read it: what is odd about its spelling stays."""
    if level.upper() in _COMMON or not level:
        return level
    made = names.of("folder", level)
    made += "" if level.isascii() else "ü"
    made = made.replace("-", " ", 1) if " " in level.strip() else made
    return made + (" " if level != level.rstrip() else "")


def _string_at(line: bytes, start: int) -> tuple[bytes, int]:
    """The string that begins there, and where it ends."""
    match = _NAME.match(line, start)
    if match is None:
        return b"", start
    if match[0].startswith(b"{"):
        size = int(re.sub(rb"\D", b"", match[0]))
        return line[match.end() : match.end() + size], match.end() + size
    if match[0].startswith(b'"'):
        return re.sub(rb"\\(.)", rb"\1", match[0][1:-1]), match.end()
    return match[0].rstrip(b"\r\n"), match.end() - (2 if match[0].endswith(b"\r\n") else 0)


def _quoted(name: bytes) -> bytes:
    return b'"' + name.replace(b"\\", b"\\\\").replace(b'"', b'\\"') + b'"'
