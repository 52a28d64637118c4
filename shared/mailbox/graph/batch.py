"""Many small requests in one: mark read and delete, twenty mails at a time.

Source: "Combine multiple HTTP requests using JSON batching" (learn.microsoft.com/graph): at most
20 requests; answers in any order; each may be throttled by itself while the batch says 200.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

import httpx

from shared.errors import TryAgain
from shared.mailbox.base import MailRef
from shared.mailbox.failures import SessionLost
from shared.mailbox.graph.http import IMMUTABLE_IDS, GraphError, GraphHttp
from shared.mailbox.net.https import retry_after

SIZE: Final = 20
_ROUNDS: Final = 8
#: The mail was changed at this moment by somebody else (ErrorIrresolvableConflict), or 424: what
#: the request depends on failed.
_CONFLICTS: Final = frozenset({409, 412, 424})


def settle(graph: GraphHttp, refs: Sequence[MailRef], request: Mapping[str, Any]) -> list[MailRef]:
    """Sends `request` ({method, suffix, body}) for each mail; returns those that are settled.

    A mail that is gone counts as settled. What the server will not do for a single mail is left
    out; raises where it would not do it for any (no right, throttled for long).
    """
    settled: list[MailRef] = []
    failures: list[GraphError] = []
    for start in range(0, len(refs), SIZE):
        done, failed = _batch(graph, refs[start : start + SIZE], request)
        settled += done
        failures += failed
        if any(_passes(failure) for failure in failed):
            break  # throttled for longer than we wait: the others would be too
    if failures and not settled:
        raise failures[0]
    done_keys = {ref.key for ref in settled}
    return [ref for ref in refs if ref.key in done_keys]


def _batch(
    graph: GraphHttp, refs: Sequence[MailRef], request: Mapping[str, Any]
) -> tuple[list[MailRef], list[GraphError]]:
    waiting = {str(number): ref for number, ref in enumerate(refs, 1)}
    settled: list[MailRef] = []
    failed: list[GraphError] = []
    for attempt in range(_ROUNDS):
        answer = graph.post_batch(
            [_request(graph, number, ref, request) for number, ref in waiting.items()]
        )
        passing: list[GraphError] = []
        for number, failure in _outcomes(answer, waiting):
            ref = waiting[number]
            if failure is None or failure.is_item_gone:
                settled.append(waiting.pop(number))
            elif _passes(failure):
                passing.append(failure)
            else:
                failed.append(failure)
                graph.transcript.note(f"{ref.key}: {failure.code} {failure.words}")
                del waiting[number]
        if not waiting:
            break
        if not passing:
            raise SessionLost(f"{graph.host} left requests of a batch without an answer.")
        if attempt + 1 == _ROUNDS:
            failed += passing
            break
        asked = [failure.retry_after for failure in passing if failure.retry_after is not None]
        try:
            graph.pause(max(asked, default=None), attempt, passing[0].error("settling mails"))
        except TryAgain:
            failed += passing  # what was settled before is so all the same
            break
    return settled, failed


def _passes(failure: GraphError) -> bool:
    return failure.passes or failure.status in _CONFLICTS


def _request(
    graph: GraphHttp, number: str, ref: MailRef, request: Mapping[str, Any]
) -> dict[str, Any]:
    one: dict[str, Any] = {
        "id": number,
        "method": request["method"],
        "url": graph.message(ref) + str(request.get("suffix", "")),
        "headers": {"Prefer": IMMUTABLE_IDS},
    }
    if "body" in request:
        one["headers"]["Content-Type"] = "application/json"
        one["body"] = request["body"]
    return one


def _outcomes(
    answer: Mapping[str, Any], waiting: Mapping[str, MailRef]
) -> list[tuple[str, GraphError | None]]:
    outcomes: list[tuple[str, GraphError | None]] = []
    for row in answer.get("responses") or []:
        number = str(row.get("id"))
        if number not in waiting or any(number == known for known, _ in outcomes):
            continue
        status = int(row.get("status") or 0)
        if 200 <= status < 300:
            outcomes.append((number, None))
            continue
        headers = httpx.Headers({k: str(v) for k, v in (row.get("headers") or {}).items()})
        outcomes.append((number, GraphError(status, row.get("body"), retry_after(headers))))
    return outcomes
