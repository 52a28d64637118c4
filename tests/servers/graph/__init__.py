"""A Microsoft Graph of our own, mail part, over HTTPS on loopback.

    with GraphServer(authority) as graph:
        mailbox = graph.mailbox("alice@example.org")
        mailbox.deliver([b"Subject: one\\r\\n\\r\\n..."])
        token = graph.token("alice@example.org")
        graph.fail("/$value", status=429, times=3)      # faults, see `Fault`
        graph.violations                                # must stay empty

Its behaviour follows the documentation (each rule names its page); every request and every answer
is checked against the published metadata (`csdl`). What a client does wrong is refused and noted.
"""

from __future__ import annotations

import base64
import itertools
import json
import secrets
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import unquote

import pytest
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import padding

from tests.servers.certificates import Authority
from tests.servers.graph.csdl import Schema
from tests.servers.graph.http import Answer, HttpsServer, Request
from tests.servers.graph.mailboxes import GraphMailbox
from tests.servers.graph.rest import Rest

__all__ = ["Fault", "GraphServer"]


@dataclass
class Fault:
    """What goes wrong with requests whose path holds `part`, `times` times from now on.

    `status` 0 cuts the connection after `after` octets of the body; else it is answered, with
    `code` and Retry-After where `retry_after` is given. `before` runs first (items vanish, …).
    """

    part: str
    times: int = 1
    status: int = 503
    code: str = "ServiceUnavailable"
    message: str = "The service is temporarily unavailable."
    retry_after: float | None = None
    after: int = 0
    method: str = ""
    #: In place of an error object: a page for people, or nothing at all.
    content: bytes | None = None
    before: Callable[[], None] | None = None


@dataclass
class GraphServer:
    """The server with its mailboxes, faults and what it saw."""

    authority: Authority
    #: "Microsoft Graph service-specific throttling limits", Outlook: concurrent requests.
    at_once: int = 4
    #: National clouds do not have message: permanentDelete.
    permanent_delete: bool = True
    #: Every nth request is throttled; 0: none.
    throttle_every: int = 0
    #: Seconds that each answer takes.
    delay: float = 0.0
    loop_links: bool = False
    #: Whether pages never end: empty ones follow, each with a link of its own; thousands of them.
    endless_links: bool = False
    endless_given: int = 0
    #: So many pages of a delta are served before their state is forgotten; below 0: all.
    forget_state_after: int = -1
    #: Whether a message has singleValueExtendedProperties.
    extended_properties: bool = True
    #: Whether it takes $filter and $orderby together.
    sorts: bool = True
    duplicate_pages: bool = False
    mailboxes: dict[str, GraphMailbox] = field(default_factory=dict)
    #: Mailboxes that the tenant's application access policy covers; None: there is no policy.
    access_policy: set[str] | None = None
    violations: list[str] = field(default_factory=list)
    requests: list[str] = field(default_factory=list)
    faults: list[Fault] = field(default_factory=list)
    peak: int = 0
    throttled: int = 0
    _tokens: dict[str, dict[str, Any]] = field(default_factory=dict)
    _running: Counter[str] = field(default_factory=Counter)
    _lock: threading.Lock = field(default_factory=threading.Lock)
    _public_key: Path | None = None

    def __post_init__(self) -> None:
        self.schema = Schema.load()
        self._count = itertools.count(1)
        self._http = HttpsServer(self.authority.issue("localhost", "127.0.0.1"), self._answer)
        self.port = self._http.port
        self.origin = f"https://localhost:{self.port}"
        self._rest = Rest(self)

    def __enter__(self) -> GraphServer:
        self._http.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._http.stop()

    @property
    def ca(self) -> str:
        return self.authority.pem

    @property
    def endpoint(self) -> tuple[str, int]:
        return ("localhost", self.port)

    def mailbox(self, address: str, inbox: str = "Inbox") -> GraphMailbox:
        """The mailbox of that address, made where it is missing."""
        return self.mailboxes.setdefault(address.lower(), GraphMailbox(address, inbox))

    # ---- tokens

    def token(
        self,
        user: str | None = None,
        scope: str = "Mail.ReadWrite",
        *,
        lasts: float = 3600,
        requests: int | None = None,
    ) -> str:
        """A token of a person, or of an application (`user` None). It expires after `lasts`
        seconds, or when it was used for so many `requests`."""
        token = secrets.token_urlsafe(40)
        claims: dict[str, Any] = {"exp": time.time() + lasts, "left": requests}
        if user is None:
            claims["roles"] = scope.split()
        else:
            claims |= {"email": user, "scp": scope}
        self._tokens[token] = claims
        return token

    def trust(self, public_key: Path) -> None:
        """Takes JWTs that this RSA key signed (RS256), besides its own tokens."""
        self._public_key = public_key

    def claims_of(self, token: str) -> dict[str, Any] | None:
        """What a token that is known says; None where it is not known or has expired."""
        claims = self._tokens.get(token)
        if claims is None and self._public_key is not None:
            claims = self._jwt(token)
        if claims is None or claims["exp"] < time.time():
            return None
        if claims.get("left") is not None:
            with self._lock:
                claims["left"] -= 1
                if claims["left"] < 0:
                    return None
        return claims

    def _jwt(self, token: str) -> dict[str, Any] | None:
        assert self._public_key is not None
        key: Any = serialization.load_pem_public_key(self._public_key.read_bytes())
        signed, _, signature = token.rpartition(".")
        try:
            key.verify(_decoded(signature), signed.encode(), padding.PKCS1v15(), hashes.SHA256())
            claims = json.loads(_decoded(signed.partition(".")[2]))
        except (InvalidSignature, ValueError):
            return None
        scope = str(claims.get("scope", "")).replace("https://graph.microsoft.com/", "")
        if "roles" in claims:
            return {"exp": claims["exp"], "roles": claims["roles"]}
        return {"exp": claims["exp"], "email": claims.get("email", ""), "scp": scope}

    # ---- faults

    def fail(self, part: str, **changes: Any) -> None:
        """The next requests whose path holds `part` go wrong (`Fault`)."""
        if changes.get("status") == 429:
            changes.setdefault("code", "ApplicationThrottled")
            changes.setdefault("message", "Application is over its MailboxConcurrency limit.")
        self.faults.append(Fault(part, **changes))

    def fault_for(self, method: str, path: str) -> Fault | None:
        with self._lock:
            for fault in self.faults:
                if fault.part in path and fault.method in ("", method) and fault.times > 0:
                    fault.times -= 1
                    return fault
        return None

    def leads_on(self) -> bool:
        """Whether another empty page follows; it ends, for who would follow it for ever."""
        self.endless_given += self.endless_links
        return self.endless_links and self.endless_given <= 2000

    def throttle(self) -> Answer:
        """Retry-After is documented, and missing at times; so it is here."""
        self.throttled += 1
        words = "Application is over its MailboxConcurrency limit."
        answer = Answer.error(429, "ApplicationThrottled", words)
        if self.throttled % 2:
            answer.headers["Retry-After"] = "1"
        return answer

    def note(self, violation: str) -> None:
        """Something a client did, or we did, that the documentation does not know."""
        self.violations.append(violation)

    # ---- one request

    def _answer(self, request: Request) -> Answer:
        mailbox, weight = _weighed(request, self.at_once)
        with self._lock:
            self.requests.append(f"{request.method} {request.path}")
            self._running[mailbox] += weight
            self.peak = max(self.peak, self._running[mailbox])
            request.permits = max(0, self.at_once - self._running[mailbox] + weight)
            crowded = request.permits < weight and not request.path.endswith("/$batch")
            number = next(self._count)
        try:
            if self.delay:
                time.sleep(self.delay)
            answer = self._judge(request, number, crowded)
        finally:
            if not answer_is_long(request):
                self._leave(mailbox, weight)
        if answer_is_long(request):
            answer.done = lambda: self._leave(mailbox, weight)
        return answer

    @contextmanager
    def taken(self, mailbox: str, permits: int) -> Iterator[None]:
        """Another program of the tenant asks for something all the time."""
        with self._lock:
            self._running[mailbox] += permits
        try:
            yield
        finally:
            self._leave(mailbox, permits)

    def _leave(self, mailbox: str, weight: int) -> None:
        with self._lock:
            self._running[mailbox] -= weight

    def _judge(self, request: Request, number: int, crowded: bool) -> Answer:
        if crowded or (self.throttle_every and number % self.throttle_every == 0):
            return self.throttle()
        fault = self.fault_for(request.method, request.path)
        if fault is not None:
            if fault.before is not None:
                fault.before()
            if fault.status:
                answer = Answer.error(fault.status, fault.code, fault.message)
                if fault.content is not None:
                    answer = Answer(fault.status, content=fault.content)
                if fault.retry_after is not None:
                    answer.headers["Retry-After"] = f"{fault.retry_after:g}"
                return answer
            if fault.before is None:
                answer = self._rest.answer(request)
                answer.cut = fault.after
                return answer
        return self._rest.answer(request)


def _weighed(request: Request, at_once: int) -> tuple[str, int]:
    """Whose mailbox a request is about, and as how many it counts: the requests of a batch count
    each by itself ("Throttling and batching"), as many as the mailbox takes at a time."""
    if request.path.endswith("/$batch"):
        inner = (request.body or {}).get("requests") or [{}]
        mailbox = str(inner[0].get("url", "")).partition("/users/")[2].partition("/")[0]
        return unquote(mailbox), min(at_once, len(inner))
    return (request.path.split("/")[3] if request.path.count("/") > 2 else ""), 1


def answer_is_long(request: Request) -> bool:
    """Whether the permit is taken until the last octet went out."""
    return request.path.endswith("$value")


def _decoded(text: str) -> bytes:
    return base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))


def without_faults(server: GraphServer) -> Mapping[str, Any]:
    """What a test leaves behind is taken away from the next one."""
    server.mailboxes.clear()
    server.faults.clear()
    server.requests.clear()
    server.violations.clear()
    server.throttle_every = server.throttled = server.peak = server.endless_given = 0
    server.delay = 0.0
    server.loop_links = server.duplicate_pages = server.endless_links = False
    server.permanent_delete = server.extended_properties = server.sorts = True
    server.forget_state_after = -1
    server.access_policy = None
    return {}


@pytest.fixture(scope="session")
def graph_process(authority: Authority) -> Iterator[GraphServer]:
    with GraphServer(authority) as server:
        yield server


@pytest.fixture
def graph_server(graph_process: GraphServer) -> Iterator[GraphServer]:
    """The session's Graph, empty. Fails the test where a request or an answer was not according
    to the metadata."""
    without_faults(graph_process)
    yield graph_process
    assert graph_process.violations == []
