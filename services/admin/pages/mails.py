"""Mails: finding them, the path of one, what it says, and delivering again."""

from __future__ import annotations

import uuid
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from html import escape
from typing import Final
from urllib.parse import urlencode

import structlog
from fastapi import APIRouter, Request
from starlette.responses import HTMLResponse, Response

from services.admin.auth.route_permissions import (
    OPERATE,
    OPERATE_ON_PART,
    READ_MAIL_OF_PART,
    VIEW_PART,
)
from services.admin.context import Context
from services.admin.downloads import PartDownload, download_mail
from services.admin.operations import handlers as handler_operations
from services.admin.operations import messages as operations
from services.admin.operations import quarantine
from services.admin.operations.certificates import certificates_of
from services.admin.operations.connection_list import find_connection
from services.admin.operations.mail_facts import believed_servers
from services.admin.operations.messages import MailKind, MessageFilter, MessageState
from services.admin.operations.parts import read_part
from services.admin.operations.quarantine import Quarantined
from services.admin.pages import mail_content
from services.admin.pages.formatting import counted
from services.admin.pages.forms import Form, whole_number
from services.admin.pages.rendering import HEADERS, redirect, render, static
from services.admin.pages.request_context import context_of
from shared.errors import InvalidInput, NotFound, PosthouseError
from shared.mail_security import Security
from shared.people import Permission
from shared.untrusted_text import shown

_log = structlog.get_logger(__name__)
router = APIRouter(prefix="/mails")
STATES: Final = {
    MessageState.WAITING: "On its way",
    MessageState.RETRYING: "Tried again soon",
    MessageState.PUBLISHED: "In a handler's queue",
    MessageState.IN_HAND: "In hand",
    MessageState.ACKNOWLEDGED: "Acknowledged",
    MessageState.REJECTED: "Rejected",
    MessageState.DEAD_LETTER: "Dead letter",
    MessageState.QUARANTINED: "In quarantine",
    MessageState.DROPPED: "Dropped",
    MessageState.UNWANTED: "No handler wants it",
    MessageState.UNDECRYPTED: "Could not be decrypted",
}
KINDS: Final = {
    MailKind.PERSON: "From a person",
    MailKind.AUTO_REPLY: "Automatic reply",
    MailKind.BOUNCE: "Bounce",
    MailKind.LIST: "Mailing list",
    MailKind.CALENDAR: "Calendar",
    MailKind.RECEIPT: "Receipt",
    MailKind.COMPLAINT: "Complaint",
}
_FILTERS: Final = (
    "q", "connection", "state", "since", "until", "not_for", "kind", "attachment", "thread",
)  # fmt: skip
#: Mails are read beside the page, which waits for so many seconds and no longer.
_TIMEOUT_S: Final = 3.0
_READERS: Final = ThreadPoolExecutor(max_workers=2, thread_name_prefix="mail-content")
#: A frame that shows a sanitised mail may load our style sheet and nothing else at all.
_FRAME_HEADERS: Final = {
    **HEADERS,
    "content-security-policy": "sandbox; default-src 'none'; style-src 'self'; base-uri 'none'; "
    "form-action 'none'; frame-ancestors 'self'",
    "x-frame-options": "SAMEORIGIN",
}


@router.get("", dependencies=[VIEW_PART])
def search(
    request: Request,
    q: str = "",
    connection: str = "",
    state: str = "",
    since: str = "",
    until: str = "",
    not_for: str = "",
    kind: str = "",
    attachment: str = "",
    thread: str = "",
    before: str = "",
) -> Response:
    ctx = context_of(request)
    query = {
        "q": q,
        "connection": connection,
        "state": state,
        "since": since,
        "until": until,
        "not_for": not_for,
        "kind": kind,
        "attachment": attachment,
        "thread": thread,
    }
    error: InvalidInput | None = None
    page = operations.MessagePage((), None)
    try:
        wanted, name = _filter(ctx, query)
        page = operations.search_messages(ctx, wanted, before=_identifier(before))
    except InvalidInput as invalid:
        error, name = invalid, connection

    def link(**changes: str) -> str:
        return "/mails?" + urlencode({n: v for n, v in (query | changes).items() if v})

    return render(
        request,
        "mails/list.html",
        422 if error else 200,
        page=page,
        quarantined=_quarantined(ctx, query, first=not before),
        query=query,
        filtered=any(query.values()),
        connection_name=name,
        error=error,
        link=link,
        first=not before,
        states=STATES,
        kinds=KINDS,
        handlers=[] if ctx.principal.tags else handler_operations.search_handlers(ctx),
    )


@router.post("/deliver-again", dependencies=[OPERATE])
def deliver_many_again(request: Request, form: Form) -> Response:
    ctx = context_of(request)
    query = {name: form.text(name) for name in _FILTERS}
    back = "/mails?" + urlencode({n: v for n, v in query.items() if v})
    try:
        wanted, _ = _filter(ctx, query)
        done = operations.deliver_messages_again(ctx, wanted, handler_ids=form.ids("handler"))
    except InvalidInput as error:
        return redirect(back, f"{error} {error.hint}".strip(), "bad")
    text = f"{counted(done.count, 'mail is', 'mails are')} on the way again."
    if done.next:
        return redirect(
            back, f"{text} More match: narrow the search and deliver those, too.", "warn"
        )
    return redirect(back, text)


@router.get("/{message_id:uuid}", dependencies=[VIEW_PART])
def detail(request: Request, message_id: uuid.UUID) -> Response:
    ctx = context_of(request)
    found = operations.get_message(ctx, message_id)
    content, missing, headers = None, "", found.headers
    if ctx.principal.may(Permission.READ_MAIL):
        headers = found.handed_out
        content, missing = _content(ctx, message_id)
    findings = (*headers.findings, *(content.findings if content else ()))
    security = Security.from_json(found.message.security or {})
    opened_by = certificates_of(ctx, _ids(security.certificate))
    return render(
        request,
        "mails/detail.html",
        detail=found,
        message=found.message,
        security=security,
        opened_by=opened_by,
        headers=headers,
        findings=list(dict.fromkeys((str(one.kind), one.detail) for one in findings)),
        content=content,
        facts=content and content.facts,
        missing=missing,
        thread=operations.get_thread(ctx, found.message),
        states=STATES,
        kinds=KINDS,
        handlers=[] if ctx.principal.tags else handler_operations.search_handlers(ctx),
    )


def _quarantined(ctx: Context, query: Mapping[str, str], *, first: bool) -> Sequence[Quarantined]:
    """What a search for a text finds of mails that were never downloaded."""
    if not first or not query["q"].strip():
        return ()
    found = quarantine.search_quarantine(ctx, q=query["q"].strip().strip("<>"), limit=20).items
    return [one for one in found if not one.in_ledger]


def _content(ctx: Context, message_id: uuid.UUID) -> tuple[mail_content.ShownContent | None, str]:
    """What a mail says, or why that cannot be shown: its path is shown all the same, and soon."""
    try:
        chunks = operations.read_message(ctx, message_id).chunks
        trusted = believed_servers(ctx, message_id)
        reading = _READERS.submit(mail_content.read, chunks, trusted)
        try:
            return reading.result(_TIMEOUT_S), ""
        except TimeoutError:
            reading.cancel()
            return None, "What it says takes long to read. Try again in a moment, or download it."
    except PosthouseError as error:
        return None, f"{error} {error.hint}".strip()
    except Exception:  # whatever a mail holds: the page is how people find out about it
        _log.exception("mail not shown", message_id=str(message_id))
        return None, "What it says cannot be shown. It can be downloaded."


@router.get("/{message_id:uuid}/content", dependencies=[READ_MAIL_OF_PART])
def content_frame(request: Request, message_id: uuid.UUID) -> Response:
    """The sanitised HTML of a mail, for the sandboxed frame."""
    content, missing = _content(context_of(request), message_id)
    html = shown(content.html if content else escape(missing))
    page = (
        "<!doctype html><html lang='en'><head><meta charset='utf-8'><title>Mail</title>"
        f"<link rel='stylesheet' href='{static('mail.css')}'></head><body>{html}"
        "</body></html>"
    )
    return HTMLResponse(page, headers=_FRAME_HEADERS)


@router.get("/{message_id:uuid}/raw", dependencies=[READ_MAIL_OF_PART])
def raw(request: Request, message_id: uuid.UUID, original: bool = False) -> Response:
    mail = operations.read_message(context_of(request), message_id, original=original)
    return download_mail(f"{message_id}.eml", mail.size, mail.chunks)


@router.get("/{message_id:uuid}/parts/{path}", dependencies=[READ_MAIL_OF_PART])
def part(request: Request, message_id: uuid.UUID, path: str) -> Response:
    return PartDownload(read_part(context_of(request), message_id, path))


@router.post("/{message_id:uuid}/deliver-again", dependencies=[OPERATE_ON_PART])
def deliver_again(request: Request, message_id: uuid.UUID, form: Form) -> Response:
    ids = form.ids("handler")
    try:
        operations.deliver_message_again(
            context_of(request), message_id, handler_ids=ids, reason=form.text("reason")[:200]
        )
    except InvalidInput as error:
        return redirect(f"/mails/{message_id}", f"{error} {error.hint}".strip(), "bad")
    return redirect(
        f"/mails/{message_id}",
        "The mail is on its way again, with the same event id.",
    )


def _filter(ctx: Context, query: Mapping[str, str]) -> tuple[MessageFilter, str]:
    """The filter, and the name of the connection it holds. Raises InvalidInput."""
    connection_id, name = _connection(ctx, query["connection"].strip())
    state = query["state"]
    until = _day(query["until"], "until", after=timedelta(days=1))  # that day included
    wanted = MessageFilter(
        q=query["q"],
        connection_id=connection_id,
        state=MessageState(state) if state in set(MessageState) else None,
        since=_day(query["since"], "since"),
        until=until,
        filtered_by=whole_number(query["not_for"]),
        kind=MailKind(kind) if (kind := query["kind"]) in set(MailKind) else None,
        has_attachment={"yes": True, "no": False}.get(query["attachment"]),
        thread=query["thread"],
    )
    return wanted, name


def _connection(ctx: Context, typed: str) -> tuple[int | None, str]:
    """By its id, its name, or a part of the name that no other one has."""
    if not typed:
        return None, ""
    return find_connection(ctx, typed)


def _day(typed: str, name: str, after: timedelta = timedelta()) -> datetime | None:
    if not typed:
        return None
    try:
        return datetime.fromisoformat(typed).replace(tzinfo=UTC) + after
    except (ValueError, OverflowError):
        raise InvalidInput("This is not a date.", field=name, hint="Like 2026-01-31.") from None


def _identifier(typed: str) -> uuid.UUID | None:
    try:
        return uuid.UUID(typed) if typed else None
    except ValueError:
        raise NotFound("There is no such page of the search.") from None


def _ids(text: str | None) -> list[int]:
    number = whole_number(text or "")
    return [] if number is None else [number]
