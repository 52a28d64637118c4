"""Messages of a job queue: which of them are jobs, and which cannot be decoded."""

from __future__ import annotations

from typing import Any

import dramatiq
import dramatiq.errors
import structlog

from shared.jobs import label_of
from shared.queueing.undecodable_jobs import UNDECODABLE_JOBS
from shared.telemetry import metrics

_log = structlog.get_logger(__name__)


class JobEncoder(dramatiq.JSONEncoder):
    """Reads what is no job as one without an actor: so a consumer sees it and rejects it."""

    def decode(self, data: bytes) -> Any:
        nothing: dict[str, Any] = {
            "queue_name": "",
            "actor_name": None,
            "args": (),
            "kwargs": {},
            "options": {},
            "message_id": "",
            "message_timestamp": 0,
        }
        try:
            found = super().decode(data)
        except dramatiq.errors.DecodeError:
            return nothing
        usable = isinstance(found, dict) and found.keys() == nothing.keys()
        return found if usable and isinstance(found["args"], list) else nothing


dramatiq.set_encoder(JobEncoder())


def decoded(data: bytes | None) -> dramatiq.Message[Any] | None:
    """The job, None where these octets are none."""
    if data is None:
        return None
    try:
        message = dramatiq.Message.decode(data)
    except dramatiq.errors.DecodeError:
        return None
    return message if is_job(message) else None


def is_job(message: Any) -> bool:
    """Whether it has the parts that the library relies on. Jobs are never delayed (`eta`)."""
    return (
        isinstance(message.actor_name, str)
        and isinstance(message.message_id, str)
        and isinstance(message.options, dict)
        and isinstance(message.kwargs, dict)
        and "eta" not in message.options
    )


def count_undecodable(queue: str, data: bytes | None) -> None:
    """Counts and logs what is no job; `data` where its octets are at hand."""
    metrics.UNDECODABLE_JOBS.labels(label_of(queue)).inc()
    UNDECODABLE_JOBS.note(label_of(queue))
    _log.error(
        "undecodable job rejected",
        queue=queue,
        octets=None if data is None else len(data),
        hint="Postgres knows what was to be done: it is sent again.",
    )
