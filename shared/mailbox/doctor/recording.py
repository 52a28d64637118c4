"""A recording of an examination that may be given away: everything of somebody is replaced.

What is replaced is decided by what may stay, not by what must go: protocol words, numbers, dates,
capabilities, and the words of refusals and greetings with what looks like a name taken out. Mails
become others of the same length. Equal things stay equal, so that the recording can be played back.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable
from typing import Any, Final

from shared.clock import utc_now
from shared.errors import Conflict
from shared.mailbox.doctor import request_forms
from shared.mailbox.doctor.anonymise_http import HttpRequests
from shared.mailbox.doctor.anonymise_imap import ImapLines, replaced_level
from shared.mailbox.doctor.anonymise_pop3 import Pop3Lines
from shared.mailbox.doctor.examination import NOBODYS, Examination
from shared.mailbox.doctor.exchanges import RecordedExchange, Session, sessions_of
from shared.mailbox.doctor.pseudonyms import Pseudonyms
from shared.mailbox.doctor.reporting import form_of

FORMAT: Final = "posthouse-recording/1"


class RecordingLeaks(Conflict):
    """Something that was to be replaced is still in the recording: it is not given out."""

    code = "recording-leaks"


def recording(found: Examination, *, secrets: Iterable[str] = ()) -> str:
    """The recording as JSON, to be read by a person before it leaves.

    `secrets` (passwords, tokens) must not be in it in any form. Raises RecordingLeaks.
    """
    connection = found.connection
    names = Pseudonyms()
    user = names.user(connection.username)
    shared = names.user(connection.shared_mailbox or "") or None
    host = connection.endpoint[0]
    names.server(host)
    lines = ImapLines(names, connection.username)
    folder = "/".join(replaced_level(names, level) for level in connection.folder.split("/"))
    for one in found.folders:
        for level in one.name.strip("/").split("/"):
            replaced_level(names, level)
    protocol = connection.kind.protocol
    sessions: list[dict[str, Any]] = []
    if protocol == "imap":
        sessions = [
            _imap(session, lines) for session in sessions_of("imap", found.observer.streams)
        ]
    elif protocol == "pop3":
        pop3 = Pop3Lines(names, connection.username)
        sessions = [_pop3(session, pop3) for session in sessions_of("pop3", found.observer.streams)]
    requests = HttpRequests(names, connection.mailbox)
    document = {
        "format": FORMAT,
        "recorded": utc_now().date().isoformat(),
        "mode": connection.mode.value,
        "connection": {
            "username": user,
            "shared_mailbox": shared,
            "folder": folder,
            "selection": connection.selection.value,
        },
        "sessions": sessions,
        "requests": [requests.taken(request) for request in found.observer.requests],
    }
    text = json.dumps(document, ensure_ascii=False, indent=1)
    hidden = [*secrets, connection.username, connection.mailbox, host]
    leaked = names.leaks(text, hidden, _protocol_of(document))
    if leaked:
        raise RecordingLeaks(
            f"The recording would still hold {len(leaked)} texts that were to be replaced, so it "
            "is not given out.",
            hint="Tell those who develop Posthouse, without the texts: this is a defect.",
        )
    return text


def _protocol_of(document: dict[str, Any]) -> list[str]:
    """Texts of a recording that are nobody's: its keys, the forms of requests, capabilities."""
    found = [*document, *document["connection"], document["mode"], NOBODYS]
    for session in document["sessions"]:
        found += [*session, session["greeting"] if "CAPABILITY" in session["greeting"] else ""]
        for one in session["exchanges"]:
            found += [*one, one["form"]]
            found += [text for _, text in one["said"] if "CAPABILITY" in text or "* ID" in text]
    for request in document["requests"]:
        found += [*request, *request["headers"].values(), request["method"]]
        found += re.findall(r'"([\w.@]+)":', request["answer"] + request["body"])
        found.append(request_forms.of_http(request["method"], request["url"], b""))
    return found


def _imap(session: Session, lines: ImapLines) -> dict[str, Any]:
    return {
        "greeting": _text(lines.greeting(session.greeting)),
        "exchanges": [_imap_exchange(one, lines) for one in session.exchanges],
    }


def _imap_exchange(exchange: RecordedExchange, lines: ImapLines) -> dict[str, Any]:
    form = form_of("imap", exchange)
    verb = form.split(" ", 1)[0]
    return _exchange(
        form,
        exchange,
        lines.ours(exchange.request, verb),
        [
            (ours, lines.ours_later(piece, verb) if ours else lines.theirs(piece, verb))
            for ours, piece in exchange.said
        ],
    )


def _pop3(session: Session, lines: Pop3Lines) -> dict[str, Any]:
    exchanges = []
    for one in session.exchanges:
        theirs = lines.theirs(one.request, [piece for ours, piece in one.said if not ours])
        said = [(False, piece) for piece in theirs]
        exchanges.append(_exchange(form_of("pop3", one), one, lines.ours(one.request), said))
    return {"greeting": _text(lines.greeting(session.greeting)), "exchanges": exchanges}


def _exchange(
    form: str, exchange: RecordedExchange, request: bytes, said: list[tuple[bool, bytes]]
) -> dict[str, Any]:
    return {
        "form": form,
        "request": _text(request),
        "said": [["C" if ours else "S", _text(piece)] for ours, piece in said],
        "ms": exchange.milliseconds,
    }


def _text(octets: bytes) -> str:
    """Octets as JSON carries them: each is the character of its number."""
    return octets.decode("latin-1")
