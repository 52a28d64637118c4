"""Requests to Microsoft Graph: immutable ids, fresh tokens, throttling, errors in our words.

Sources: "Microsoft Graph throttling guidance", "Obtain immutable identifiers for Outlook
resources", "Microsoft Graph error responses" (learn.microsoft.com/graph).
"""

from __future__ import annotations

import json
import random
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from typing import Any, Final
from urllib.parse import quote, urlencode, urlsplit

import httpx

from shared.errors import PosthouseError, TryAgain
from shared.mailbox import wait_budget
from shared.mailbox.base import MailRef
from shared.mailbox.errors import diagnoses, graph_answers
from shared.mailbox.failures import SessionLost, StepFailed
from shared.mailbox.net import https
from shared.mailbox.net.request_limits import RequestLimiter
from shared.mailbox.net.transcript import Transcript
from shared.mailbox.wait_budget import ServerTooSlow
from shared.telemetry import metrics

#: On every request: ids that stay when a mail is moved, and folder ids as they were before.
IMMUTABLE_IDS: Final = 'IdType="ImmutableId"'
_FIRST_PAUSE: Final = 1.0
_LONGEST_PAUSE: Final = 30.0


class GraphError(Exception):
    """An error answer, not yet judged: `answer` is its JSON. Never leaves this package."""

    def __init__(self, status: int, answer: Any, retry_after: float | None) -> None:
        super().__init__(f"HTTP {status}")
        self.status = status
        self.answer = answer
        self.retry_after = retry_after
        self.code, self.words = graph_answers.graph_error(answer)
        #: Whether it is about the moment, and tried again after a pause.
        self.passes = graph_answers.graph_passes(status, self.code, self.words)
        if status == 429:
            metrics.GRAPH_THROTTLED.inc()

    def error(self, doing: str = "") -> StepFailed:
        return graph_answers.of_graph(
            self.status, self.answer, retry_after=self.retry_after, doing=doing
        )

    @property
    def is_item_gone(self) -> bool:
        """Whether a request about one item says that it is no more, and not that its mailbox is
        away or cannot be found at the moment."""
        about_item = not self.passes and not graph_answers.is_about_mailbox(self.code, self.words)
        return self.status in (404, 410) and about_item

    @property
    def is_about_one_request(self) -> bool:
        """Whether others may be answered all the same: no outage, no throttling, no token that is
        refused."""
        return not self.passes and self.status != 401

    @property
    def forgets_link(self) -> bool:
        """Whether the server means a link that it once gave: beginning anew helps then.

        410 is what is documented; 400 (ErrorInvalidIdMalformed, "Badly formed token") and 404 were
        reported. Not what is about the login or the moment.
        """
        about_link = 400 <= self.status < 500 and self.status not in (401, 403, 408, 423, 429)
        return about_link and not (self.passes and self.code)


class GraphHttp:
    """Requests in the name of one login about one mailbox. Thread-safe.

    `pause_budget` bounds the seconds that all pauses of this session may last together: a mailbox
    that wants longer is left to a later run (TryAgain with `retry_after`). `application`: the
    client id by which Graph counts the requests of all mailboxes.
    """

    def __init__(
        self,
        endpoint: tuple[str, int],
        mailbox: str,
        access_token: Callable[[bool], str],
        *,
        limiter: RequestLimiter,
        transcript: Transcript,
        application: str = "",
        ca_certificate: str = "",
        connect_timeout: float = 10.0,
        read_timeout: float = https.READ_TIMEOUT,
        pause_budget: float = 120.0,
        wait: Callable[[float], None] = time.sleep,
        reach: https.Reach | None = None,
    ) -> None:
        host, port = endpoint
        self.host = host
        self._origin = f"https://{host}" + (f":{port}" if port != 443 else "")
        self.mailbox = mailbox
        self.user = f"/users/{quote(mailbox, safe='@')}"
        self.transcript = transcript
        self._access_token = access_token
        self._limiter = limiter
        self._application = application
        self._pause_budget = pause_budget
        self._wait = wait
        self._mutex = threading.Lock()
        self._shown_to_nobody = ""
        self._http = https.client(
            ca_certificate,
            connect=connect_timeout,
            read=read_timeout,
            connections=8,
            reach=reach,
        )

    # ---- requests

    def get(
        self,
        path: str,
        query: Mapping[str, str] | None = None,
        *,
        prefer: Sequence[str] = (),
        unless: Callable[[GraphError], bool] | None = None,
    ) -> dict[str, Any]:
        """The JSON of `path` below /v1.0 (or of a link that an answer gave).

        What is about the moment is tried again, `unless` that says so of the first error answer.
        """
        return self._json("GET", self.url(path, query), prefer=prefer, unless=unless)

    def post_batch(self, requests: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
        """Only requests that may be repeated without harm.

        They count each by itself and run side by side, so each takes a permit at the mailbox, or
        they take all of them ("JSON batching", "Throttling and batching").
        """
        body = {"requests": list(requests)}
        return self._json("POST", self.url("/$batch"), body=body, requests=len(requests))

    @contextmanager
    def stream(
        self, path: str, *, unless: Callable[[GraphError], bool] | None = None
    ) -> Iterator[Iterator[bytes]]:
        """The octets of `path` as they come, in chunks of at most 64 KiB; a permit at the mailbox
        is held until the end of the block. `unless` as for `get`."""
        with self._answered(
            "GET", self.url(path), accept="*/*", streamed=True, unless=unless
        ) as answer:
            yield self._chunks(answer)

    def url(self, path: str, query: Mapping[str, str] | None = None) -> str:
        """Where a path or a link leads: always to our own host, whatever a link says (tokens are
        for nobody else, and a gateway's links may name Graph itself)."""
        if path.startswith("https://"):
            parts = urlsplit(path)
            return f"{self._origin}{parts.path}" + (f"?{parts.query}" if parts.query else "")
        text = urlencode(query, quote_via=quote, safe="$,'()=") if query else ""
        return f"{self._origin}/v1.0{path}" + (f"?{text}" if text else "")

    def message(self, ref: MailRef) -> str:
        """The path of one mail; ids are compared with regard to case."""
        return f"{self.user}/messages/{quote(str(ref.key), safe='=')}"

    def close(self) -> None:
        self._http.close()

    def pause(self, seconds: float | None, attempt: int, why: PosthouseError) -> None:
        """Waits as the server asked, or longer from attempt to attempt where it did not say.

        Raises `why` where the pause budget of this session is not enough for it, and ServerTooSlow
        where the budget of the work is not.
        """
        if seconds is None:
            longest = min(_LONGEST_PAUSE, _FIRST_PAUSE * 2.0**attempt)
            pause = random.uniform(longest / 2, longest)  # noqa: S311 (jitter)
        else:
            pause = seconds
        work = wait_budget.current()
        with self._mutex:
            if pause > self._pause_budget:
                raise why
            if work is not None and pause > work.left:
                raise ServerTooSlow(work.seconds, retry_after=seconds) from why
            self._pause_budget -= pause
        self.transcript.note(f"pausing for {pause:.1f} s")
        with work.waiting() if work is not None else nullcontext():
            self._wait(pause)

    # ---- one request until it is answered

    def _json(
        self,
        method: str,
        url: str,
        *,
        body: Mapping[str, Any] | None = None,
        prefer: Sequence[str] = (),
        requests: int = 1,
        unless: Callable[[GraphError], bool] | None = None,
    ) -> dict[str, Any]:
        with self._answered(
            method, url, body=body, prefer=prefer, requests=requests, unless=unless
        ) as answer:
            with https.translated(self.host):
                text = answer.read()
            try:
                found = json.loads(text) if text else {}
            except (ValueError, RecursionError) as error:
                if https.is_page(answer):
                    raise https.not_the_provider(self.host) from error
                raise SessionLost(f"{self.host} answered with broken JSON.") from error
            return found if isinstance(found, dict) else {}

    @contextmanager
    def _answered(
        self,
        method: str,
        url: str,
        *,
        body: Mapping[str, Any] | None = None,
        prefer: Sequence[str] = (),
        accept: str = "application/json",
        streamed: bool = False,
        requests: int = 1,
        unless: Callable[[GraphError], bool] | None = None,
    ) -> Iterator[httpx.Response]:
        """The answer of a request that succeeded, open, with its permits at the mailbox."""
        renew = renewed = given = False
        attempt = 0
        while True:
            headers = self._headers(renew, prefer, accept)
            failure: GraphError | TryAgain
            try:
                with (
                    self._limiter.permits(
                        self.mailbox,
                        within=self._pause_budget,
                        application=self._application,
                        requests=requests,
                    ),
                    self._sent(method, url, headers, body, streamed) as answer,
                ):
                    if 300 <= answer.status_code < 400:
                        raise https.not_the_provider(self.host)  # Graph redirects nobody
                    if answer.status_code < 300:
                        given = True
                        yield answer
                        return
                    failure = self._failure(answer)
            except TryAgain as error:
                if given or getattr(error, "step", "") != "tcp":
                    raise
                failure = error
            renew = False
            if isinstance(failure, GraphError):
                if failure.status == 401 and not renewed:
                    renew = renewed = True  # the token ended early, or its rights were changed
                    continue
                if not failure.passes or attempt >= 5:
                    raise failure
                if unless is not None and unless(failure):
                    raise failure
                unless = None
                if failure.status == 429 and failure.retry_after:
                    self._limiter.pause(self.mailbox, failure.retry_after)
                self.pause(failure.retry_after, attempt, failure.error())
            else:
                if attempt >= 2:
                    raise failure
                self.pause(None, attempt, failure)
            attempt += 1

    def _headers(self, renew: bool, prefer: Sequence[str], accept: str) -> dict[str, str]:
        token = self._access_token(renew)
        with self._mutex:
            if token != self._shown_to_nobody:
                self._shown_to_nobody = token
                self.transcript.hide(token)
        return {
            "Authorization": f"Bearer {token}",
            "Prefer": ", ".join((IMMUTABLE_IDS, *prefer)),
            "Accept": accept,
        }

    @contextmanager
    def _sent(
        self,
        method: str,
        url: str,
        headers: Mapping[str, str],
        body: Mapping[str, Any] | None,
        streamed: bool,
    ) -> Iterator[httpx.Response]:
        self.transcript.sent(f"{method} {url.removeprefix(self._origin)}".encode())
        request = self._http.build_request(
            method,
            url,
            headers=dict(headers),
            json=body,
            extensions=https.STREAMED if streamed else None,
        )
        with https.translated(self.host):
            answer = self._http.send(request, stream=True)
        try:
            self.transcript.received(
                f"{answer.status_code} {answer.headers.get('request-id', '')}".encode()
            )
            yield answer
        finally:
            answer.close()

    def _failure(self, answer: httpx.Response) -> GraphError:
        with https.translated(self.host):
            text = answer.read()
        try:
            found = json.loads(text)
        except (ValueError, RecursionError):
            found = {}
        failure = GraphError(answer.status_code, found, https.retry_after(answer.headers))
        words = f"{failure.code}: {failure.words}" if failure.code else "no error code"
        asked = f", Retry-After {failure.retry_after:g}" if failure.retry_after else ""
        self.transcript.received((diagnoses.shortened(words) + asked).encode())
        return failure

    def _chunks(self, answer: httpx.Response) -> Iterator[bytes]:
        with https.translated(self.host):
            yield from answer.iter_bytes(65_536)


@contextmanager
def judged(doing: str = "") -> Iterator[None]:
    """Turns error answers inside the block into errors with a verdict."""
    try:
        yield
    except GraphError as failure:
        raise failure.error(doing) from failure
