"""The doctor over every kind of mailbox: it asks what runs ask, and changes nothing."""

from __future__ import annotations

import re
import uuid
from base64 import b64encode
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest

from shared.connections import AfterDownload, Selection
from shared.mailbox.doctor.examination import Examination
from shared.mailbox.doctor.recording import recording
from shared.mailbox.doctor.reporting import DoctorReport, report
from shared.mailbox.open import open_mailbox
from tests.contract.cloud_kinds import GraphKind
from tests.contract.examinations import examined
from tests.contract.mailbox_kinds import KINDS, ROOTED, mail
from tests.contract.recorders import Collector, KnownKeys
from tests.servers.certificates import Authority
from tests.servers.graph import GraphServer
from tests.servers.graph.mailboxes import Attachment
from tests.servers.mail_server import PASSWORD
from tests.servers.replayed import Recording, ReplayedServer

pytestmark = pytest.mark.promise("M25")


@pytest.fixture(
    params=[
        pytest.param(name, marks=pytest.mark.rooted) if name in ROOTED else name
        for name in KINDS
        if name != "memory"
    ]
)
def kind(request: pytest.FixtureRequest) -> Any:
    """A mailbox on a server, of every kind in turn."""
    return KINDS[request.param](request)


def test_every_form_of_request_is_understood_and_nothing_changes(kind: Any) -> None:
    kind.deliver(mail("one"), mail("two"), mail("three"))
    before = kind.stored()
    found = report(examined(kind))
    refused = [row for row in found.rows if row.verdict in ("refused", "unanswered")]
    assert found.healthy, (refused, found.sentences)
    assert kind.stored() == before
    if kind.read_flag:
        assert not any(kind.is_read(subject) for subject in before)
    for row in found.rows:
        assert row.verdict == "not-asked" or row.title != row.form, f"{row.form} is not described"


def test_a_recording_holds_nothing_of_anybody_and_plays_back(
    kind: Any, authority: Authority, tmp_path: Path
) -> None:
    subjects = ["Gehaltsliste Quartal", "Kündigung", "Angebot 4711"]
    kind.deliver(*(private_mail(subject) for subject in subjects))
    if kind.folders:
        kind.create_folder("Mandanten/Müller" if "Entwürfe" in kind.odd_folders else "Mandanten")
    found = examined(kind)
    text = recording(found, secrets=[PASSWORD])
    told = [
        kind.connection.username,
        kind.connection.username.partition("@")[0],
        "Mandanten",
        "Müller",
        "M&APw-ller",
        *subjects,
        "Gehaltsliste",
        "chefin@kanzlei.example",
        "kanzlei.example",
        "Aktenzeichen-99",
        "streng vertraulich",
    ]
    token = kind.login().access_token
    told += [token(False)] if token is not None else []
    told += [f'"{PASSWORD}"', f" {PASSWORD}", b64encode(PASSWORD.encode()).decode()]
    told += [key for key in keys_of(found) if len(key) > 7]
    for secret in told:
        for form in (secret, quote(secret, safe=""), b64encode(secret.encode()).decode()):
            assert form not in text, f"{secret} is in the recording"
    file = tmp_path / "recording.json"
    file.write_text(text, encoding="utf-8")
    played = Recording.read(file)
    assert len(played.document["sessions"]) + len(played.document["requests"]) > 0
    with ReplayedServer(played, authority) as server:
        again = report(examined(server))
        wanted = report(found)
        assert verdicts(again) == verdicts(wanted), again.sentences
        assert again.healthy
        assert fetched_from(server) == len(subjects)


def test_each_kind_of_item_of_a_graph_mailbox_is_downloaded_once(
    graph_server: GraphServer,
) -> None:
    """An S/MIME mail that Graph keeps as one attachment, and an invitation, beside plain mails."""
    kind = GraphKind(graph_server)
    said = {"from": {"emailAddress": {"name": "Bob", "address": "bob@example.org"}}}
    kind.deliver(mail("plain"))
    structure = Attachment("smime.p7m", bytes(range(256)) * 40, "application/octet-stream")
    kind.box.deliver([None], properties={"subject": "Geheim", **said}, attachments=[structure])
    kind.box.deliver(
        [mail("meeting")], kind="eventMessageRequest", properties={"subject": "Montag", **said}
    )
    before = kind.stored()
    found = report(examined(kind))
    assert found.healthy, found.sentences
    assert kind.stored() == before
    missing = [
        row.form for row in found.rows if row.verdict == "not-asked" and "$value" in row.form
    ]
    assert missing == [], "each kind of item was there to be asked for"


def private_mail(subject: str) -> bytes:
    return (
        f"From: Die Chefin <chefin@kanzlei.example>\r\nTo: alle@kanzlei.example\r\n"
        f"Message-ID: <{uuid.uuid4().hex}@kanzlei.example>\r\n"
        f"X-Akte: Aktenzeichen-99\r\nSubject: {subject}\r\n\r\n"
        "Das ist streng vertraulich.\r\n"
    ).encode()


def keys_of(found: Examination) -> list[str]:
    """Lasting names of mails that the server gave: of POP3 and Graph they are strings."""
    octets = b"".join(part for stream in found.observer.streams for _, _, part in stream.events)
    uidls = re.findall(rb"^\d+ (\S{6,})\r$", octets, re.M)
    ids = [re.findall(rb'"id": ?"([^" ]+)"', bytes(r.answer)) for r in found.observer.requests]
    return [key.decode("latin-1") for key in [*uidls, *(one for row in ids for one in row)]]


def verdicts(found: DoctorReport) -> dict[str, str]:
    return {row.form: row.verdict for row in found.rows if "token" not in row.form.split(" ")}


def fetched_from(server: ReplayedServer) -> int:
    """How many mails a run over a replayed server takes; once they are settled, none is left."""
    known = KnownKeys()
    taken = 0
    for expected_rest in (False, True):
        mailbox = open_mailbox(server.connection, server.login(), read_timeout_s=20)
        try:
            mailbox.open(server.connection.folder)
            listing = mailbox.list_new(known, Selection.UNREAD)
            if expected_rest:
                assert not listing.new
                continue
            sink = Collector()
            mailbox.download(listing.new, sink, limit=1 << 20)
            taken = len(sink.mails)
            known.add(listing.new)
            mailbox.settle(listing.new, AfterDownload.MARK_READ)
        finally:
            mailbox.close()
    return taken
