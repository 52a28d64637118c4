"""Does what `apply` has planned, in its order, with a bar where somebody looks on."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from itertools import groupby
from typing import Any, Final

from cli.client import Api, refused
from cli.declared.changes import Change, Sending
from shared.connection_editing import ACKNOWLEDGED_FIELDS
from shared.errors import PosthouseError

#: Calls about connections under way at a time.
_AT_A_TIME: Final = 8
#: Connections a call: the API takes 100, and bodies of 2 MiB. Two calls go at a time.
_MANY: Final = 50
_LARGEST: Final = 1_000_000
_CALLS: Final = 2

Failures = list[tuple[Change, PosthouseError]]
Outcomes = list[tuple[Change, PosthouseError | None]]


def done(api: Api, changes: Sequence[Change], *, quiet: bool) -> Failures:
    """Does each; what fails does not keep the others from being done.

    Connections for which no mail server is asked are sent many a call; others several at a time, as
    each waits for its server.
    """
    from rich.console import Console
    from rich.progress import Progress

    failures: Failures = []
    still = quiet or len(changes) < 20 or not sys.stderr.isatty()
    progress = Progress(console=Console(stderr=True), transient=True, disable=still)
    with progress:
        task = progress.add_task("Applying", total=len(changes))
        for outcomes in _outcomes(api, changes):
            progress.advance(task, len(outcomes))
            failures += [(change, error) for change, error in outcomes if error is not None]
    order = {id(change): number for number, change in enumerate(changes)}
    return sorted(failures, key=lambda one: order[id(one[0])])


def _outcomes(api: Api, changes: Sequence[Change]) -> Iterator[Outcomes]:
    """Of some changes at a time, as they are done."""
    for together, group in groupby(changes, key=_together):
        some = list(group)
        if not together:
            yield from ([(one, _tried(one))] for one in some)
            continue
        bodies: list[tuple[Change, dict[str, Any]]] = []
        alone: list[Change] = []
        for one in some:
            try:
                body = one.sending.body() if one.sending is not None else None
            except PosthouseError as error:
                yield [(one, error)]
                continue
            if one.sending is None or body is None or _may_ask_a_server(one.sending, body):
                alone.append(one)
            else:
                bodies.append((one, body))
        with ThreadPoolExecutor(_CALLS) as threads:
            yield from threads.map(lambda batch: _sent(api, batch), list(_batches(bodies)))
        with ThreadPoolExecutor(_AT_A_TIME) as threads:
            for one, failure in zip(alone, threads.map(_tried, alone), strict=True):
                yield [(one, failure)]


def _together(change: Change) -> bool:
    return change.kind == "connections" and change.verb != "delete"


def _may_ask_a_server(sending: Sending, body: dict[str, Any]) -> bool:
    """Whether a server may be asked, which takes its time."""
    counts = sending.enabled and not ACKNOWLEDGED_FIELDS.isdisjoint(body)
    if (body.get("enabled") or counts) and not body.get("acknowledged"):
        return True
    return "credential_id" in body


def _batches(
    bodies: Sequence[tuple[Change, dict[str, Any]]],
) -> Iterator[list[tuple[Change, dict[str, Any]]]]:
    batch: list[tuple[Change, dict[str, Any]]] = []
    octets = 0
    for one, body in bodies:
        size = len(json.dumps(body))
        if batch and (len(batch) >= _MANY or octets + size > _LARGEST):
            yield batch
            batch, octets = [], 0
        batch.append((one, body))
        octets += size
    if batch:
        yield batch


def _sent(api: Api, batch: Sequence[tuple[Change, dict[str, Any]]]) -> Outcomes:
    try:
        items = [_item(change, body) for change, body in batch]
        answer = api.post("connections/many", {"items": items})
    except PosthouseError as error:
        return [(change, error) for change, _ in batch]
    outcomes: Outcomes = []
    for (change, _), one in zip(batch, answer["items"], strict=True):
        if one["error"] is None and change.sending is not None:
            change.sending.made(one["id"])
        problem = one["error"]
        outcomes.append((change, problem and refused(problem, problem["status"])))
    return outcomes


def _item(change: Change, body: dict[str, Any]) -> dict[str, Any]:
    there = change.sending and change.sending.id
    return body if there is None else {**body, "id": there}


def _tried(change: Change) -> PosthouseError | None:
    try:
        change.act()
    except PosthouseError as error:
        return error
    return None
