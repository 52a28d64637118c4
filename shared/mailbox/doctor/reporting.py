"""What an examination means, in plain sentences: one row a form of request."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from typing import Final

from shared.errors import PosthouseError
from shared.mailbox.doctor import request_forms
from shared.mailbox.doctor.examination import Examination
from shared.mailbox.doctor.exchanges import RecordedExchange, sessions_of
from shared.mailbox.traffic_observer import HttpRequest

UNDERSTOOD: Final = "understood"
REFUSED: Final = "refused"
UNANSWERED: Final = "unanswered"
NOT_ASKED: Final = "not-asked"
_LONGEST_WORDS: Final = 300
_SLOW_MS: Final = 5000
_NOT_USED: Final = "Runs use another way to log in."


@dataclass(frozen=True, slots=True)
class FormResult:
    """A form of request and what became of it.

    `verdict` is `understood`, `refused`, `unanswered` or `not-asked`; `words` are the server's last
    ones, printable and without secrets; `milliseconds` the longest that one took, of `times`.
    """

    form: str
    title: str
    verdict: str
    meaning: str
    words: str = ""
    milliseconds: int | None = None
    times: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class DoctorReport:
    """What the doctor found; `healthy` where every form that was sent was understood."""

    mode: str
    healthy: bool
    server: str
    folder: str
    capabilities: Sequence[str]
    rows: Sequence[FormResult]
    sentences: Sequence[str]
    duration_ms: int = 0
    recording: str | None = field(default=None)


def report(found: Examination, *, secrets: Iterable[str] = ()) -> DoctorReport:
    """The report of an examination. `secrets` are in no word of it."""
    protocol = found.connection.kind.protocol
    hidden = sorted({s for s in secrets if s}, key=len, reverse=True)
    answered: dict[str, list[_FormAnswer]] = {}
    for session in sessions_of(protocol, found.observer.streams):
        for exchange in session.exchanges:
            form = form_of(protocol, exchange)
            answered.setdefault(form, []).append(_of_exchange(exchange))
    rows = [_row(protocol, form, answers, hidden) for form, answers in answered.items()]
    asked: dict[str, list[_FormAnswer]] = {}
    for request in found.observer.requests:
        form = request_forms.of_http(request.method, request.url, request.body)
        asked.setdefault(form, []).append(_of_request(request))
    if not any(doing.startswith("downloading") for doing, _ in found.failures):
        asked = {form: _that_count(form, answers) for form, answers in asked.items()}
    rows += [_row("http", form, answers, hidden) for form, answers in asked.items()]
    rows = [_unused(row) if row.form in _forms_of(found.other_ways) else row for row in rows]
    sentences = [
        _clean(f"{doing[:1].upper()}{doing[1:]} failed: {_sentence(error)}", hidden)
        for doing, error in found.failures
    ]
    sentences += [_clean(note, hidden) for note in found.notes]
    refused = [row for row in rows if row.verdict != UNDERSTOOD and row.meaning != _NOT_USED]
    sentences += [f"{row.title}: {row.meaning}" for row in refused]
    sentences += [
        f"{row.title} took {row.milliseconds / 1000:.1f} s."
        for row in rows
        if row.milliseconds is not None and row.milliseconds > _SLOW_MS
    ]
    if not refused and not found.failures:
        sentences.insert(0, "The server understood everything that was asked.")
    rows += [
        FormResult(what, what, NOT_ASKED, f"Not asked: {why}.") for what, why in found.not_asked
    ]
    return DoctorReport(
        mode=found.connection.mode.value,
        healthy=not refused and not found.failures,
        server=_clean(found.server, hidden),
        folder=found.mailbox,
        capabilities=found.capabilities,
        rows=rows,
        sentences=list(dict.fromkeys(sentences)),
    )


def _that_count(form: str, answers: list[_FormAnswer]) -> list[_FormAnswer]:
    """Exchange refuses the MIME form of some items, and runs take these by their attachment or
    their properties: where every download came to an end, a refused `$value` beside others is no
    fault (MS-OXOSMIME)."""
    if not form.endswith("/$value"):
        return answers
    return [one for one in answers if one.ok] or answers


def _forms_of(ways: Sequence[str]) -> set[str]:
    """The forms by which the ways of giving a password are seen."""
    plain = {"LOGIN command": "LOGIN", "USER": "USER name", "APOP": "APOP name"}
    return {
        form
        for way in ways
        for form in ([plain[way]] if way in plain else [f"AUTHENTICATE {way}", f"AUTH {way}"])
    }


def _unused(row: FormResult) -> FormResult:
    return row if row.verdict == UNDERSTOOD else replace(row, meaning=_NOT_USED)


def form_of(protocol: str, exchange: RecordedExchange) -> str:
    """The form of what was asked on a connection."""
    of = request_forms.of_imap if protocol == "imap" else request_forms.of_pop3
    return of(exchange.request)


@dataclass(frozen=True, slots=True)
class _FormAnswer:
    ok: bool | None
    words: bytes
    milliseconds: int


def _of_exchange(exchange: RecordedExchange) -> _FormAnswer:
    # LOGOUT and QUIT may be answered by the end of the connection.
    ended = exchange.request.strip().upper() in (b"LOGOUT", b"QUIT") and exchange.ok is None
    return _FormAnswer(True if ended else exchange.ok, exchange.words, exchange.milliseconds)


def _of_request(request: HttpRequest) -> _FormAnswer:
    words = f"HTTP {request.status}".encode()
    if request.status >= 400:
        words += b" " + bytes(request.answer[:_LONGEST_WORDS])
    took = max(0, round((request.ended - request.started) * 1000)) if request.ended else 0
    return _FormAnswer(request.status < 400 if request.status else None, words, took)


def _row(
    protocol: str, form: str, answers: Sequence[_FormAnswer], hidden: Sequence[str]
) -> FormResult:
    use = request_forms.use_of(protocol, form)
    worst = next((a for a in answers if a.ok is False), None)
    worst = worst or next((a for a in answers if a.ok is None), answers[0])
    if worst.ok:
        verdict, meaning = UNDERSTOOD, "Runs can use it."
    elif worst.ok is None:
        verdict = UNANSWERED
        meaning = f"No answer came. {use.refused if use else ''}".strip()
    else:
        verdict, meaning = REFUSED, use.refused if use else "It is not known what this means."
    return FormResult(
        form,
        use.title if use else form,
        verdict,
        meaning,
        _clean(worst.words.decode("utf-8", "replace"), hidden),
        max(answer.milliseconds for answer in answers),
        len(answers),
    )


def _sentence(error: PosthouseError) -> str:
    return f"{error} {error.hint}".strip()


def _clean(text: str, hidden: Sequence[str]) -> str:
    for secret in hidden:
        text = text.replace(secret, "***")
    shown = "".join(c if c.isprintable() else "\N{REPLACEMENT CHARACTER}" for c in text)
    return shown if len(shown) <= _LONGEST_WORDS else shown[:_LONGEST_WORDS] + "…"
