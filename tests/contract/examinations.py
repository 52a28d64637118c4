"""Examinations of the suite's mailboxes, and the forms of requests that anybody sent."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from shared.connections import Connection, Mode
from shared.kinds import KINDS
from shared.mailbox.base import Mailbox
from shared.mailbox.doctor import request_forms
from shared.mailbox.doctor.examination import Examination
from shared.mailbox.doctor.examine import examine
from shared.mailbox.doctor.exchanges import sessions_of
from shared.mailbox.doctor.reporting import form_of
from shared.mailbox.doctor.request_forms import use_of
from shared.mailbox.open import open_mailbox
from shared.mailbox.traffic_observer import Observer
from tests.contract.mailbox_kinds import mail


def examined(kind: Any, **changes: Any) -> Examination:
    """An examination of a kind of mailbox, with the login of that kind."""

    def opened(connection: Connection, *, mechanism: str = "", fresh: bool = False) -> Mailbox:
        login = replace(kind.login(), mechanism=mechanism)
        login = login.with_fresh_token() if fresh else login
        return open_mailbox(connection, login, read_timeout_s=20)

    return examine(replace(kind.connection, **changes), opened, seconds=60)


def forms_sent(observer: Observer, mode: Mode) -> set[tuple[str, str]]:
    """(protocol, form) of everything that was asked."""
    protocol = KINDS[mode].protocol
    found = {
        ("http", request_forms.of_http(request.method, request.url, request.body))
        for request in observer.requests
    }
    for session in sessions_of(protocol, observer.streams):
        found |= {(protocol, form_of(protocol, one)) for one in session.exchanges}
    return found


def asked_by_the_doctor(kind: Any) -> set[tuple[str, str]]:
    """What the doctor asks such a mailbox, with enough mails in it for pages and ranges."""
    few = kind.connection.mode is not Mode.MICROSOFT_GRAPH
    if kind.folders:
        kind.create_folder("Main/Sub")
    kind.deliver(*(mail(f"number {number}") for number in range(3 if few else 260)))
    return forms_sent(examined(kind).observer, kind.connection.mode)


def changes(protocol: str, form: str) -> bool:
    """Whether a form changes the mailbox."""
    use = use_of(protocol, form)
    return use is not None and use.changes
