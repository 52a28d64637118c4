"""Asks authorities over HTTP for revocation lists and answers, at allowed addresses only.

The addresses stand in certificates, so strangers chose them: names are resolved once and held to
the rules of hosts, redirects are not followed, an answer is bounded in octets and in time, and a
host in requests a day. One that fails is left alone for a while, whichever replica would ask.
"""

from __future__ import annotations

import base64
from typing import Final
from urllib.parse import quote

import httpx

from shared.allowed_hosts import HostRules
from shared.certificates.revocation import Unusable
from shared.errors import PosthouseError
from shared.mailbox.net import https
from shared.storage import revocations
from shared.storage.pool import Database
from shared.telemetry import metrics

#: Seconds: to be connected, for a piece of an answer, for all of it.
_CONNECT_S: Final = 5.0
_READ_S: Final = 10.0
_WHOLE_S: Final = 60.0
#: Octets of a responder's answer.
_ANSWER_OCTETS: Final = 1 << 20
#: Longer questions are posted (RFC 5019 section 5).
_LONGEST_IN_ADDRESS: Final = 255


class Asker:
    """Asks, and counts what it asks. Thread-safe; close it."""

    def __init__(self, database: Database, hosts: HostRules) -> None:
        self._database = database
        self._client = https.client(
            connect=_CONNECT_S, read=_READ_S, answer=_WHOLE_S, reach=hosts.at
        )

    def __enter__(self) -> Asker:
        return self

    def __exit__(self, *_: object) -> None:
        self._client.close()

    def list_at(self, address: str) -> bytes:
        """What lies there. Raises Unusable."""
        return self._fetch("crl", address, https.ANSWER_LIMIT)

    def answer_of(self, address: str, question: bytes) -> bytes:
        """What the responder answers, asked in the way that lets caches answer where that is
        possible. Raises Unusable."""
        asked = f"{address.rstrip('/')}/{quote(base64.b64encode(question), safe='')}"
        if len(asked) <= _LONGEST_IN_ADDRESS and "?" not in address:
            return self._fetch("ocsp", asked, _ANSWER_OCTETS)
        return self._fetch("ocsp", address, _ANSWER_OCTETS, question)

    def _fetch(self, source: str, address: str, limit: int, question: bytes | None = None) -> bytes:
        try:
            host = httpx.URL(address).host
        except httpx.InvalidURL as error:
            raise Unusable("The address is none.") from error
        with self._database.transaction() as session:
            if not revocations.may_ask(session, host):
                metrics.REVOCATION_REQUESTS.labels(source, "put-off").inc()
                raise Unusable(f"{host} is left alone for now: it failed, or was asked often.")
        try:
            answer = self._answer(host, address, limit, question)
        except (PosthouseError, httpx.HTTPError, httpx.InvalidURL, Unusable) as error:
            with self._database.transaction() as session:
                revocations.record_host_failure(session, host)
            metrics.REVOCATION_REQUESTS.labels(source, "failed").inc()
            raise Unusable(str(error) or type(error).__name__) from error
        with self._database.transaction() as session:
            revocations.record_host_answer(session, host)
        metrics.REVOCATION_REQUESTS.labels(source, "ok").inc()
        return answer

    def _answer(self, host: str, address: str, limit: int, question: bytes | None) -> bytes:
        request = self._client.build_request(
            "GET" if question is None else "POST",
            address,
            content=question,
            headers={} if question is None else {"Content-Type": "application/ocsp-request"},
            extensions={"answer_limit": limit},
        )
        with https.translated(host):
            answer = self._client.send(request, stream=True)
            try:
                if answer.status_code != 200:
                    raise Unusable(f"{host} answers {answer.status_code} {answer.reason_phrase}.")
                return answer.read()
            finally:
                answer.close()
