"""A server that plays what the doctor recorded: a report from the field as a test.

    with ReplayedServer(Recording.read(file), authority) as server:
        open_mailbox(server.connection, server.login)

What was asked then is answered as then. What was not asked (a run settles, and downloads more than
one mail) is answered from what was: flags are kept, and mails say nothing.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import unquote_to_bytes, urlsplit

import scramp

from shared.connections import Connection, Mode, Selection, TransportSecurity
from shared.mailbox.base import Login
from shared.mailbox.doctor import request_forms
from shared.mailbox.doctor.stand_in_mails import mail_of
from tests.servers.certificates import Authority
from tests.servers.graph.http import Answer, HttpsServer, Request, parse_target
from tests.servers.scripted import Conversation, ScriptedServer, read_set, stuffed

_UID = re.compile(rb"UID (\d+)")


@dataclass(frozen=True)
class Recording:
    """A recording of the doctor's."""

    document: dict[str, Any]

    @classmethod
    def read(cls, file: Path) -> Recording:
        return cls(json.loads(file.read_text(encoding="utf-8")))

    @property
    def mode(self) -> Mode:
        return Mode(self.document["mode"])

    def exchanges(self) -> Iterator[dict[str, Any]]:
        for session in self.document["sessions"]:
            yield from session["exchanges"]

    def verdicts(self) -> dict[str, bool]:
        """Form → whether it was understood each time."""
        found: dict[str, bool] = {}
        for one in self.exchanges():
            last = next((text for side, text in reversed(one["said"]) if side == "S"), "")
            first = next((t for side, t in one["said"] if side == "S" and t[:1] != "+"), "+OK")
            refused = last.startswith(("TAG NO", "TAG BAD")) or first.startswith("-ERR")
            found[one["form"]] = found.get(one["form"], True) and not refused
        for request in self.document["requests"]:
            if "/v1.0/" in request["url"]:
                form = request_forms.of_http(
                    request["method"], request["url"], request["body"].encode()
                )
                found[form] = found.get(form, True) and request["status"] < 400
        return found


class ReplayedServer:
    """Plays one recording; `connection` and `login` are those to open it with."""

    def __init__(self, recording: Recording, authority: Authority) -> None:
        self.recording = recording
        self._ca = authority.pem
        given = recording.document["connection"]
        self._player: _Pop3 | _Graph | _Imap
        if recording.mode is Mode.POP3:
            self._player = _Pop3(recording)
        elif recording.mode is Mode.MICROSOFT_GRAPH:
            self._player = _Graph(recording)
        else:
            self._player = _Imap(recording)
        cloud = recording.mode in (Mode.GOOGLE_IMAP, Mode.MICROSOFT_IMAP)
        bearer = cloud or any("OAUTH" in one["form"] for one in recording.exchanges())
        self._server: Any
        if isinstance(self._player, _Graph):
            self._server = HttpsServer(authority.issue("localhost"), self._player.answer)
        else:
            identity = authority.issue("localhost") if bearer else None
            self._server = ScriptedServer(self._player.play, tls=identity)
        self._bearer = bearer or recording.mode is Mode.MICROSOFT_GRAPH
        own = recording.mode in (Mode.IMAP, Mode.POP3)
        self.connection = Connection(
            name="replayed",
            mode=recording.mode,
            host="localhost" if own else "",
            port=self._server.port if own else 0,
            security=TransportSecurity.TLS if bearer else TransportSecurity.NONE,
            username=given["username"],
            shared_mailbox=given["shared_mailbox"],
            folder=given["folder"],
            selection=Selection(given["selection"]),
            has_password=not self._bearer,
            credential_id=1 if self._bearer else None,
            timeout_ms=5000,
        )

    def login(self) -> Login:
        if not self._bearer:
            return Login(self.connection.username, "password")
        return Login(
            self.connection.username,
            access_token=lambda renew: "token",
            endpoint=("localhost", self._server.port),
            ca_certificate=self._ca,
        )

    def __enter__(self) -> ReplayedServer:
        if isinstance(self._server, HttpsServer):
            self._server.start()
        else:
            self._server.__enter__()
        return self

    def __exit__(self, *_: object) -> None:
        if isinstance(self._server, HttpsServer):
            self._server.stop()
        else:
            self._server.__exit__(None, None, None)


class _Imap:
    def __init__(self, recording: Recording) -> None:
        self._greeting = recording.document["sessions"][0]["greeting"].encode("latin-1")
        self._by_request: dict[bytes, dict[str, Any]] = {}
        self._by_form: dict[str, dict[str, Any]] = {}
        #: For forms that came later than the recording: what was answered to the like of them.
        self._by_verb: dict[str, dict[str, Any]] = {}
        self._fetched: dict[tuple[str, int], bytes] = {}
        #: What is offered before the login; some servers offer less behind it.
        self._offered: dict[str, Any] | None = None
        for one in recording.exchanges():
            if self._offered is None and one["form"] == "CAPABILITY" and not self._by_form:
                self._offered = one
            self._by_request[one["request"].encode("latin-1")] = one
            self._by_form.setdefault(one["form"], one)
            self._by_verb.setdefault(_verb(one["form"]), one)
            for side, text in one["said"]:
                uid = _UID.search(text.encode("latin-1"))
                if side == "S" and " FETCH " in text[:40] and uid is not None:
                    self._fetched[one["form"], int(uid[1])] = text.encode("latin-1")
        self._seen: set[int] = set()
        self._gone: set[int] = set()

    def play(self, talk: Conversation) -> None:
        talk.send(self._greeting)
        logged_in = False
        while line := talk.line():
            tag, _, rest = line.partition(b" ")
            request = rest + b"\r\n"
            if self._offered is not None and not logged_in and request == b"CAPABILITY\r\n":
                self._say(talk, tag, "CAPABILITY", request, self._offered)
                continue
            logged_in = logged_in or request.startswith((b"LOGIN", b"AUTHENTICATE"))
            while (size := re.search(rb"\{(\d+)\+\}\r\n\Z", request)) is not None:
                request += talk.octets(int(size[1])) + talk.line() + b"\r\n"
            self._answer(talk, tag, request)
            if request == b"LOGOUT\r\n":
                return  # as servers do: clients wait for it

    def _answer(self, talk: Conversation, tag: bytes, request: bytes) -> None:
        form = request_forms.of_imap(request)
        if form.startswith("AUTHENTICATE SCRAM"):
            _prove(talk, tag, request, self._by_form.get(form))
            return
        if form.startswith("UID FETCH"):
            self._fetch(talk, tag, form, request)
            return
        if form.startswith(("UID STORE", "UID EXPUNGE", "UID MOVE", "EXPUNGE")):
            uids = read_set(request.split()[2], 1 << 32) if b" " in request else set(self._gone)
            (self._seen if b"Seen" in request else self._gone).update(uids)
            talk.ok(tag)
            return
        if form.startswith("AUTHENTICATE"):
            request = b" ".join(request.split()[:2]) + b"\r\n"
        recorded = self._by_request.get(request) or self._by_form.get(form)
        recorded = recorded or self._by_verb.get(_verb(form))
        if form.startswith("SELECT"):
            recorded = self._by_request.get(request.replace(b"SELECT", b"EXAMINE"))
        if recorded is None:
            talk.send(tag + b" BAD this was not recorded\r\n")
            return
        self._say(talk, tag, form, request, recorded)

    def _say(
        self, talk: Conversation, tag: bytes, form: str, request: bytes, recorded: dict[str, Any]
    ) -> None:
        for side, text in recorded["said"]:
            octets = text.encode("latin-1")
            if side == "C":
                talk.line()
                continue
            if form.startswith("SELECT"):
                octets = octets.replace(b"READ-ONLY", b"READ-WRITE")
            if b"SEARCH" in octets[:10]:
                octets = self._searched(octets, form, request, tag)
            talk.send(re.sub(rb"\ATAG ", tag + b" ", octets))

    def _searched(self, octets: bytes, form: str, request: bytes, tag: bytes) -> bytes:
        """The result without what was settled since."""
        without = set(self._gone)
        without |= self._seen if b"UNSEEN" in request else set()
        text = octets.replace(b'"TAG"', b'"' + tag + b'"')
        found = re.search(rb"ALL ([\d:,]+)", text) or re.search(rb"SEARCH( [\d ]+)", text)
        if found is None or not (without or "UID set" in form):
            return text
        uids = read_set(b",".join(found[1].replace(b",", b" ").split()), 0) - without
        if "UID set" in form:
            asked = re.search(rb"UID ([\d:,]+)", request[4:])
            uids &= read_set(asked[1], 0) if asked is not None else uids
        if text.startswith(b"* ESEARCH"):
            head = b'* ESEARCH (TAG "%s") UID' % tag
            listed = b",".join(b"%d" % uid for uid in sorted(uids))
            return head + (b" ALL " + listed if uids else b"") + b"\r\n"
        return b"* SEARCH" + b"".join(b" %d" % uid for uid in sorted(uids)) + b"\r\n"

    def _fetch(self, talk: Conversation, tag: bytes, form: str, request: bytes) -> None:
        for uid in sorted(read_set(request.split()[2], 1 << 20)):
            recorded = self._fetched.get((form, uid))
            if recorded is None and "BODY.PEEK[]" in form:
                mail = mail_of(300, uid)
                recorded = b"* %d FETCH (UID %d BODY[] {300}\r\n%s)\r\n" % (uid, uid, mail)
            if recorded is not None:
                talk.send(recorded)
        talk.ok(tag)


def _verb(form: str) -> str:
    """`UID SEARCH RETURN` of a search with compact answers, `STATUS` of a STATUS."""
    words = form.split(" ")
    return " ".join(words[: 3 if "RETURN" in words[:3] else 2 if words[0] == "UID" else 1])


class _Pop3:
    def __init__(self, recording: Recording) -> None:
        self._greeting = recording.document["sessions"][0]["greeting"].encode("latin-1")
        self._by_request: dict[bytes, dict[str, Any]] = {}
        self._by_form: dict[str, dict[str, Any]] = {}
        for one in recording.exchanges():
            self._by_request[one["request"].encode("latin-1").strip()] = one
            self._by_form.setdefault(one["form"], one)

    def play(self, talk: Conversation) -> None:
        talk.send(self._greeting)
        while line := talk.line():
            form = request_forms.of_pop3(line)
            if form.startswith("AUTH SCRAM"):
                _prove(talk, b"", line, self._by_form.get(form))
                continue
            if form.startswith("AUTH"):
                line = b" ".join(line.split()[:2])
            recorded = self._by_request.get(line)
            if recorded is None and form.startswith("RETR"):
                talk.send(b"+OK\r\n" + stuffed(mail_of(300, int(line.split()[1]))))
                continue
            settles = form.split(" ")[0] in ("DELE", "NOOP", "QUIT")
            recorded = recorded or self._by_form.get(form)
            unknown = [("S", "+OK\r\n" if settles else "-ERR ?\r\n")]
            for _, text in recorded["said"] if recorded is not None else unknown:
                talk.send(text.encode("latin-1"))
                if text.startswith("+ "):
                    talk.line()
            if form == "QUIT":
                return


def _prove(talk: Conversation, tag: bytes, request: bytes, recorded: dict[str, Any] | None) -> None:
    """SCRAM cannot be played: it is done anew, for the password that replays have, and ends as it
    did."""
    import base64

    mechanism = scramp.ScramMechanism("SCRAM-SHA-256")
    info = mechanism.make_auth_info("password", iteration_count=4096)
    server = mechanism.make_server(lambda _: info)
    head = tag + b" OK done\r\n" if tag else b"+OK done\r\n"
    words = request.split()
    if len(words) > 2:
        first = words[2]
    else:
        talk.send(b"+ \r\n")
        first = talk.line()
    server.set_client_first(base64.b64decode(first).decode())
    talk.send(b"+ " + base64.b64encode(server.get_server_first().encode()) + b"\r\n")
    server.set_client_final(base64.b64decode(talk.line()).decode())
    talk.send(b"+ " + base64.b64encode(server.get_server_final().encode()) + b"\r\n")
    talk.line()
    last = recorded["said"][-1][1].encode("latin-1") if recorded is not None else b""
    talk.send(tag + last[3:] if last.startswith((b"TAG NO", b"TAG BAD")) else head)


class _Graph:
    def __init__(self, recording: Recording) -> None:
        self._by_target: dict[tuple[str, str, tuple[Any, ...]], dict[str, Any]] = {}
        self._by_form: dict[str, dict[str, Any]] = {}
        for request in recording.document["requests"]:
            path, query = parse_target(request["url"])
            self._by_target.setdefault((request["method"], path, tuple(sorted(query))), request)
            form = request_forms.of_http(
                request["method"], request["url"], request["body"].encode()
            )
            self._by_form.setdefault(form, request)
        self._read: set[str] = set()

    def answer(self, request: Request) -> Answer:
        if request.path.endswith("/$batch"):
            return self._batch(request)
        target = (request.method, request.path, tuple(sorted(request.query)))
        recorded = self._by_target.get(target)
        if recorded is None and request.path.endswith("/$value"):
            return Answer(200, content=mail_of(300, len(request.path)))
        if recorded is None:
            return Answer.error(400, "BadRequest", "This was not recorded.")
        headers = {k: v for k, v in recorded["headers"].items() if k != "content-type"}
        octets = recorded["answer"].encode("utf-8")
        if request.path.endswith("/$value"):
            octets = recorded["answer"].encode("latin-1")
        elif octets and "isRead eq false" in json.dumps(request.query):
            found = json.loads(octets)
            rows = [row for row in found.get("value", []) if row["id"] not in self._read]
            octets = json.dumps({**found, "value": rows}).encode()
        return Answer(recorded["status"], content=octets, headers=headers)

    def _batch(self, request: Request) -> Answer:
        """As Graph does where nothing goes wrong."""
        rows = []
        for one in request.body["requests"]:
            path = unquote_to_bytes(urlsplit(one["url"]).path).decode()
            if one["method"] != "GET":
                self._read.add(path.rpartition("/messages/")[2].partition("/")[0])
            rows.append({"id": one["id"], "status": 200, "headers": {}, "body": {}})
        return Answer(200, {"responses": rows})
