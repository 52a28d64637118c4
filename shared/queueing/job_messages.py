"""What is a job among what lies on a job queue; the rest is put aside."""

from __future__ import annotations

from typing import Any

import dramatiq
import dramatiq.errors
import structlog

from shared.jobs import label_of
from shared.queueing.put_aside import PUT_ASIDE
from shared.telemetry import metrics

_log = structlog.get_logger(__name__)


class JobEncoder(dramatiq.JSONEncoder):
    """Reads what is no job as one without an actor: so a consumer sees it and puts it aside."""

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


def count_put_aside(queue: str, data: bytes | None) -> None:
    """Counts and tells what is no job; `data` where its octets are at hand."""
    metrics.JOBS_PUT_ASIDE.labels(label_of(queue)).inc()
    PUT_ASIDE.note(label_of(queue))
    _log.error(
        "unreadable job put aside",
        queue=queue,
        octets=None if data is None else len(data),
        hint="Postgres knows what was to be done: it is sent again.",
    )
