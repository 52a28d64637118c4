"""Forms of requests: a request without what is of one mailbox, and what each form is for.

`UID FETCH 3,5:9 (UID BODY.PEEK[])` and `UID FETCH 7 (UID BODY.PEEK[])` have one form,
`UID FETCH set (UID BODY.PEEK[])`. A run and the doctor are compared by their forms.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from typing import Final
from urllib.parse import parse_qsl, unquote, urlsplit

_LITERAL: Final = re.compile(rb"\{\d+\+?\}\r\n")
_STRING: Final = r'(?:"(?:[^"\\]|\\.)*"|[^ ()"]+)'
_SETS: Final = (
    (re.compile(r"\bUID \d+:\*"), "UID n:*"),
    (re.compile(r"\bUID [\d,:]*\d(?![\d:])"), "UID set"),
    (re.compile(r"(?<=\) )\d+:\d+$|(?<=SEARCH )\d+:\d+$"), "n:m"),
    (re.compile(r"\b\d{1,2}-[A-Z][a-z]{2}-\d{4}\b"), "date"),
)
_WELL_KNOWN: Final = frozenset({"inbox", "deleteditems"})
_DATE: Final = re.compile(r"\d{4}-\d\d-\d\dT[\d:.]+Z")


def of_imap(request: bytes) -> str:
    """The form of an IMAP command (without its tag)."""
    text = _flattened(request)
    verb = text.split(" ", 1)[0].upper()
    if verb in ("LOGIN", "ID"):
        return verb
    if verb == "AUTHENTICATE":
        return " ".join(text.split(" ")[:2]).upper()
    if verb == "LIST":
        return _of_list(text)
    if verb in ("STATUS", "EXAMINE", "SELECT"):
        return re.sub(rf"^{verb} {_STRING}", f"{verb} name", text, flags=re.I)
    if text.upper().startswith("UID SEARCH"):
        for pattern, name in _SETS:
            text = _replaced(pattern, name, text)
        return text
    if verb == "FETCH":
        return re.sub(r"^FETCH \d+:\d+", "FETCH n:m", text, flags=re.I)
    if text.upper().startswith("UID "):
        text = re.sub(r"^UID (\w+) [\d,:*]+", r"UID \1 set", text, flags=re.I)
        text = re.sub(rf"^(UID MOVE set) {_STRING}$", r"\1 name", text)
        return re.sub(r"<0\.\d+>", "<0.n>", text)
    return text.upper() if verb == text.upper() else text


def _replaced(pattern: re.Pattern[str], name: str, text: str) -> str:
    head, rest = text[:4], text[4:]  # the command's own "UID " is none of a criterion
    return head + pattern.sub(name, rest)


def _flattened(request: bytes) -> str:
    """The command in one line, each literal as the word `name`."""
    text, rest = b"", request
    while (literal := _LITERAL.search(rest)) is not None:
        size = int(re.sub(rb"\D", b"", literal[0]))
        text += rest[: literal.start()] + b"name"
        rest = rest[literal.end() + size :]
    return (text + rest).strip().decode("latin-1")


def _of_list(text: str) -> str:
    pattern = text[len('LIST "" ') :]
    if pattern in ('""', '"*"') or pattern.startswith('"*" RETURN'):
        return text
    return 'LIST "" "prefix*"' if pattern.endswith('*"') else 'LIST "" name'


def of_pop3(request: bytes) -> str:
    """The form of a POP3 command."""
    words = request.strip().decode("latin-1").split(" ")
    verb = words[0].upper()
    if verb in ("USER", "APOP"):
        return f"{verb} name"
    if verb == "PASS":
        return verb
    if verb == "AUTH":
        return " ".join(words[:2]).upper()
    return " ".join(
        [verb, *("n" if verb != "TOP" or i == 0 else "0" for i in range(len(words) - 1))]
    )


def of_http(method: str, url: str, body: bytes) -> str:
    """The form of a request to Graph or to an authorisation server."""
    parts = urlsplit(url)
    if not parts.path.startswith("/v1.0/"):
        return _of_authorisation(method, parts.path, body)
    segments = parts.path.removeprefix("/v1.0").split("/")
    for at, name in enumerate(segments[:-1]):
        follows = segments[at + 1]
        if name == "users":
            segments[at + 1] = "mailbox"
        elif name in ("mailFolders", "messages", "attachments") and (
            follows.lower() not in _WELL_KNOWN and follows not in ("delta", "$value")
        ):
            segments[at + 1] = "id"
    form = f"{method} {'/'.join(segments)}"
    if form.endswith("/$batch"):
        return f"{form} ({_of_batch(body)})"
    query = "&".join(sorted(_of_parameter(*pair) for pair in parse_qsl(parts.query)))
    return f"{form}?{query}" if query else form


def _of_parameter(name: str, value: str) -> str:
    if name.lower() in ("$skiptoken", "$deltatoken", "$skip"):
        return f"{name}=token"
    if name == "$top":
        return f"{name}=n"
    value = _DATE.sub("date", value)
    return f"{name}={re.sub(r'displayName eq .*', 'displayName eq name', value)}"


def _of_batch(body: bytes) -> str:
    try:
        requests = json.loads(body)["requests"]
        return ", ".join(
            sorted(
                {
                    f"{one['method']} {of_http('', 'https://x/v1.0' + one['url'], b'').strip()}"
                    for one in requests
                }
            )
        )
    except (ValueError, KeyError, TypeError):
        return "?"


def _of_authorisation(method: str, path: str, body: bytes) -> str:
    given = dict(parse_qsl(body.decode("latin-1")))
    if "grant_type" in given:
        return f"{method} token ({given['grant_type'].rpartition(':')[2]})"
    if "openid-configuration" in path:
        return f"{method} openid-configuration"
    return f"{method} {unquote(path).rpartition('/')[2] or '/'}"


@dataclass(frozen=True, slots=True)
class Use:
    """What a form is for. `changes`: it changes the mailbox, so the doctor never sends it."""

    title: str
    refused: str
    changes: bool = False


_RED: Final = "Runs of this connection fail here."
_FALLS_BACK: Final = "Runs do without it."
_IMAP: Final[tuple[tuple[str, Use], ...]] = (
    ("CAPABILITY", Use("Ask what the server can", _FALLS_BACK)),
    ("STARTTLS", Use("Begin encryption", "Posthouse never goes on in plain text.")),
    ("LOGIN", Use("Log in with name and password", "Nothing can be fetched by this way in.")),
    ("AUTHENTICATE ", Use("Log in by SASL", "Nothing can be fetched by this way in.")),
    ("ID", Use("Say who we are", "Some servers open no folder without it.")),
    ('LIST "" ""', Use("Ask how folders are named", _FALLS_BACK)),
    ("NAMESPACE", Use("Ask where folders are", "Folders of other people may not be offered.")),
    ('LIST "" name', Use("Look up the folder", _RED)),
    ("LIST ", Use("List the folders", "No folder can be picked from a list.")),
    ("STATUS ", Use("Ask whether anything is new", _RED)),
    ("EXAMINE ", Use("Open the folder for reading", _RED)),
    ("UNSELECT", Use("Leave the folder", _FALLS_BACK)),
    ("CLOSE", Use("Leave the folder (opened for reading: nothing is expunged)", _FALLS_BACK)),
    ("UID SEARCH", Use("Search for mails", _RED)),
    ("FETCH n:m (UID FLAGS", Use("All mails, where a search leaves some out", _RED)),
    ("UID FETCH set (UID RFC822.SIZE", Use("Sizes, dates and flags", _RED)),
    ("UID FETCH set (UID BODY.PEEK[HEADER]", Use("Header blocks", "Mails are not recognised.")),
    ("UID FETCH set (UID BODY.PEEK[]", Use("Download a mail", _RED)),
    ("IDLE", Use("Wait for new mails (push)", "The connection is polled by its interval.")),
    ("NOOP", Use("Ask whether the session still works", "Sessions are not kept.")),
    ("LOGOUT", Use("End the session", _FALLS_BACK)),
    ("SELECT ", Use("Open the folder for changes", _RED, changes=True)),
    ("UID STORE", Use("Set flags", _RED, changes=True)),
    ("UID EXPUNGE", Use("Delete mails", _RED, changes=True)),
    ("EXPUNGE", Use("Delete what is flagged", _RED, changes=True)),
    ("UID MOVE", Use("Move mails to the trash", _RED, changes=True)),
)
_POP3: Final[tuple[tuple[str, Use], ...]] = (
    ("CAPA", Use("Ask what the server can", _FALLS_BACK)),
    ("STLS", Use("Begin encryption", "Posthouse never goes on in plain text.")),
    ("USER ", Use("Give the name", "Nothing can be fetched by this way in.")),
    ("PASS", Use("Give the password", "Nothing can be fetched by this way in.")),
    ("APOP ", Use("Log in by a digest", "Nothing can be fetched by this way in.")),
    ("AUTH ", Use("Log in by SASL", "Nothing can be fetched by this way in.")),
    ("STAT", Use("Count the mails", _RED)),
    ("UIDL", Use("Lasting names of mails", "Mails are told apart by their headers.")),
    ("LIST", Use("Sizes of mails", "Mails are taken without knowing how large they are.")),
    ("TOP ", Use("The header of a mail", "A start from a date is impossible.")),
    ("RETR ", Use("Download a mail", _RED)),
    ("NOOP", Use("See that a mail ended where it seemed to", _RED)),
    ("QUIT", Use("End a session that retrieved nothing", _FALLS_BACK)),
    ("DELE ", Use("Delete a mail", _RED, changes=True)),
)
_HTTP: Final[tuple[tuple[str, Use], ...]] = (
    ("PATCH ", Use("Mark a mail read", _RED, changes=True)),
    ("DELETE ", Use("Delete a mail", _RED, changes=True)),
    ("POST /$batch (GET", Use("Several requests in one", "Mails cannot be settled.")),
    ("POST /$batch", Use("Mark read or delete, twenty at a time", _RED, changes=True)),
    (
        "GET /users/mailbox/mailFolders/id/messages/delta?$deltatoken",
        Use("What came since the last time (a stored link)", "Runs list the whole folder again."),
    ),
    (
        "GET /users/mailbox/mailFolders/id/messages/delta?$skiptoken",
        Use("The next page of what is new", _RED),
    ),
    (
        "GET /users/mailbox/mailFolders/id/messages/delta",
        Use("Everything in the folder, and a link for what comes later", _RED),
    ),
    ("GET /users/mailbox/mailFolders/id/messages?", Use("List mails", _RED)),
    ("GET /users/mailbox/mailFolders", Use("Folders", _RED)),
    ("GET /users/mailbox/messages/id/$value", Use("Download a mail", _RED)),
    (
        "GET /users/mailbox/messages/id",
        Use("The properties of a mail without MIME form", "Such mails go into quarantine."),
    ),
    ("GET openid-configuration", Use("Find the authorisation server", _RED)),
    ("POST token", Use("Get a fresh token", _RED)),
    ("GET ", Use("Ask the authorisation server", _FALLS_BACK)),
    ("POST ", Use("Ask the authorisation server", _FALLS_BACK)),
)


_USES: Final = {"imap": _IMAP, "pop3": _POP3, "http": _HTTP}


def use_of(protocol: str, form: str) -> Use | None:
    """What a form is for (`imap`, `pop3` or `http`); None for one that nobody has described."""
    uses = _USES[protocol]
    exact = next((use for name, use in uses if name == form), None)
    return exact or next((use for name, use in uses if form.startswith(name)), None)
