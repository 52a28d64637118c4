"""Names, addresses, ids and tokens replaced, each by the same word wherever it stands."""

from __future__ import annotations

import base64
import json
import re
import unicodedata
from collections.abc import Iterable
from typing import Final
from urllib.parse import quote

#: What in free text looks like something of somebody: addresses, hosts, numbers of networks, ids.
_TELLING: Final = (
    ("address", re.compile(r"[\w.%+'-]+@[\w.-]*\w")),
    ("url", re.compile(r"\b[a-z][a-z0-9+.-]*://[^\s\"'>)]+", re.I)),
    ("id", re.compile(r"\b[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}\b", re.I)),
    (
        "ip",
        re.compile(
            r"\b\d{1,3}(?:\.\d{1,3}){3}\b|\b[0-9a-f]{0,4}(?::[0-9a-f]{0,4}){3,7}\b"
            r"|\b[0-9a-f]{1,4}::(?:[0-9a-f]{1,4}:?)*",
            re.I,
        ),
    ),
    (
        "host",
        re.compile(r"\b(?:[^\W_](?:[\w-]*[^\W_])?\.){1,8}(?!\d)[^\W\d_]{2,24}\b"),
    ),
    (
        "path",
        re.compile(r"(?:/(?:home|Users|var/(?:mail|vmail))/|\b[A-Za-z]:\\Users\\)[^\s\"'<>()]+"),
    ),
    ("phone", re.compile(r"(?:\+\d|\b0\d)[\d ()/-]{5,}\d\b")),
    ("id", re.compile(r"\b(?=[A-Za-z0-9+/_=-]*\d)[A-Za-z0-9+/_-]{12,}={0,2}")),
)
#: Numbers of Entra and Exchange look like ids, and are what a refusal is known by.
#: So do names of SASL mechanisms.
_OF_PROVIDER: Final = re.compile(
    r"^(AADSTS\d+|\d+(\.\d+)*|[A-Z][a-zA-Z]+\d{0,3}|SCRAM-SHA-[\d-]+(-PLUS)?)$"
)
_SHORTEST: Final = 4
_SHORTEST_OF_NAME: Final = 3


class Pseudonyms:
    """`of(kind, text)` is the same for the same text; nothing leads back."""

    def __init__(self) -> None:
        self._given: dict[tuple[str, str], str] = {}
        self._counts: dict[str, int] = {}
        self._known: dict[str, str] = {}

    def of(self, kind: str, text: str) -> str:
        """The word in place of `text`."""
        key = (kind, text)
        if key not in self._given:
            number = self._counts[kind] = self._counts.get(kind, 0) + 1
            self._given[key] = _MADE.get(kind, "{kind}-{number}").format(kind=kind, number=number)
            self.replace_by(text, self._given[key])
        return self._given[key]

    def replace_by(self, text: str, instead: str) -> None:
        """Wherever `text` stands in words, `instead` does."""
        if len(text) >= _SHORTEST and text not in self._known:
            self._known[text] = instead

    def server(self, host: str) -> None:
        """A host that was connected to, and whatever of its name the server may call itself by."""
        self.replace_by(host, "host.example.org")
        for label in re.split(r"[.-]", host)[:-1]:
            if re.search(r"\d", label):  # "srv4711"; no part of an address
                self.replace_by(label, "host-1")
            elif label.upper() not in _EVERYBODYS:
                self._know_part(label, "example")

    def user(self, name: str) -> str:
        """A login name: an address stays one."""
        if not name:
            return name
        if ("user", name) in self._given:
            return self._given["user", name]
        local, at, host = name.rpartition("@")
        made = self.of("user", name)
        if at:
            made += "@example.org"
            self._given[("user", name)] = made
            self._known.setdefault(local, self.of("user", local))  # "li" is one, too
            self.replace_by(host, "example.org")
            for label in re.split(r"[.-]", host)[
                :-1
            ]:  # as servers and people call the organisation
                self._know_part(label, "example")
        self._known[name] = made
        # "Erika Mustermann" of erika.mustermann@…, and both halves of DOMAIN\name.
        for part in re.split(r"[._+/\\-]+", local if at else name):
            self._know_part(part, made.partition("@")[0])
        return made

    def _know_part(self, part: str, instead: str) -> None:
        """A word of a name, unless it is one of everybody's."""
        if len(part) >= _SHORTEST_OF_NAME and part.upper() not in _NO_SECRETS:
            self._known.setdefault(part, instead)

    def number(self, kind: str, text: str) -> str:
        """A number in place of a number."""
        return self.of(f"{kind}-number", text).rpartition("-")[2]

    def words(self, text: str) -> str:
        """Free text of a server, with everything in it replaced that may be somebody's."""
        made = set(self._known.values())
        text = unicodedata.normalize("NFC", text)  # "Müller" is written in two ways
        for kind, pattern in _TELLING:

            def replaced(match: re.Match[str], kind: str = kind) -> str:
                return self._replacement(kind, match[0], made)

            text = pattern.sub(replaced, text)
        for original in sorted(self._known, key=len, reverse=True):
            whole = rf"(?<![A-Za-z0-9]){re.escape(original)}(?![A-Za-z0-9])"
            text = re.sub(whole, self._known[original].replace("\\", r"\\"), text, flags=re.I)
        return text

    def _replacement(self, kind: str, text: str, made: set[str]) -> str:
        if text in made or (kind != "ip" and _OF_PROVIDER.match(text)):
            return text
        return self._known.get(text) or self.of(kind, text)

    def leaks(
        self, document: str, secrets: Iterable[str], protocol: Iterable[str] = ()
    ) -> list[str]:
        """Which of the replaced texts and of `secrets` are in a document all the same, plain, in
        base64 or as in an address of the web.

        A text that is a word of the `protocol` (keys, forms, capabilities) is not told apart from
        it: a folder may be called "Status".
        """
        texts = list(protocol)
        words = {word.casefold() for text in texts for word in re.findall(r"[^\W_]+", text)}
        # Names with hyphens, as of mechanisms, are words too.
        words |= {word.casefold() for text in texts for word in re.findall(r"[\w-]+", text)}
        made = set(self._known.values())
        found = []
        for text in {*self._known, *(s for s in secrets if len(s) >= _SHORTEST)}:
            if text in made or text.upper() in _NO_SECRETS or text.casefold() in words:
                continue
            if len(text) < _SHORTEST_OF_NAME:  # too much looks like it
                continue
            forms = {text, quote(text, safe=""), base64.b64encode(text.encode()).decode()}
            if any(_stands_in(form, document) for form in forms):
                found.append(text)
        return sorted(found)


def _stands_in(text: str, document: str) -> bool:
    """Whether it is there, and not as a part of a longer word."""
    if text not in document:
        return False
    return re.search(rf"(?<![^\W_]){re.escape(text)}(?![^\W_])", document) is not None


#: Words of the protocols, and of what is put in place of others, that a name may happen to be.
_NO_SECRETS: Final = frozenset(
    (  # noqa: SIM905 (a list of words reads better)
        "INBOX DRAFTS SENT TRASH JUNK ARCHIVE USER PASS APOP AUTH MAIL IMAP POP3 SUBJECT FROM NAME "
        "VENDOR SUPPORT URL POSTHOUSE ADDRESS HOST EXAMPLE ORG COM NET FOLDER KEYWORD LABEL UIDL "
        "TOKEN PATH VALUE REPLACED PASSWORD DONE PADDING MESSAGE MESSAGES USERS TEXT HTML "
        "SERVER SERVICE"
    ).split()
)
#: Labels of hosts that are nobody's: services, and providers whose own words name them.
_EVERYBODYS: Final = frozenset(
    (  # noqa: SIM905 (a list of words reads better)
        "AOL APPLE EXCHANGE FASTMAIL GMAIL GMX GOOGLE GOOGLEMAIL ICLOUD IMAPS IONOS KUNDENSERVER "
        "LIVE LOCALHOST MESSAGINGENGINE MICROSOFT ONE OUTLOOK OVH POP POP3S POST SECURE SMTP SSL "
        "STRATO WEB WEBMAIL WWW YAHOO YANDEX ZOHO"
    ).split()
)
_MADE: Final = {
    "address": "address-{number}@example.org",
    "host": "host-{number}.example.org",
    "url": "https://host.example.org/{number}",
    "ip": "192.0.2.{number}",
}


def challenge(names: Pseudonyms, text: str) -> str:
    """A SASL challenge in base64: what refuses a token in JSON stays readable, nothing else."""
    try:
        decoded = base64.b64decode(text, validate=True)
    except ValueError:  # not in base64, or not even in ASCII
        return ""
    if decoded.lower().rstrip(b":\0 ") in (b"username", b"user name", b"password"):
        return text
    try:
        told = json.loads(decoded)
        kept = {k: names.words(str(told[k])) for k in ("status", "schemes", "scope") if k in told}
    except (ValueError, TypeError):
        return ""
    return base64.b64encode(json.dumps(kept).encode()).decode()
