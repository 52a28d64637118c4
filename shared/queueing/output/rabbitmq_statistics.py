"""What consumers of a queue hold, as RabbitMQ's management plugin tells it.

Its figures are a few seconds old (`collect_statistics_interval`).
"""

from __future__ import annotations

from typing import Any, NamedTuple
from urllib.parse import quote, urlsplit, urlunsplit

import httpx

from shared.queueing.output.base import QueueConsumer


class Figures(NamedTuple):
    handled: int
    consumers: tuple[QueueConsumer, ...]
    acknowledgements: int | None


def _read_figures(figures: dict[str, Any]) -> Figures:
    """Of one queue, as the management plugin describes it."""
    consumers = [
        QueueConsumer(
            name=str(
                (one.get("channel_details") or {}).get("connection_name") or one["consumer_tag"]
            ),
            in_hand=None,
        )
        for one in figures.get("consumer_details") or ()
    ]
    held = int(figures["messages_unacknowledged"])
    if len(consumers) == 1:
        consumers = [QueueConsumer(name=consumers[0].name, in_hand=held)]
    acknowledged = (figures.get("message_stats") or {}).get("ack")
    return Figures(held, tuple(consumers), None if acknowledged is None else int(acknowledged))


def figures_of(management_url: str, virtual_host: str, queue: str) -> Figures | None:
    """None where the plugin is not asked (no `management_url`), or does not answer."""
    if not management_url:
        return None
    parts = urlsplit(management_url)
    host = parts.netloc.rpartition("@")[2]
    vhost = quote(virtual_host, safe="")
    path = f"{parts.path.rstrip('/')}/api/queues/{vhost}/{queue}"
    try:
        answer = httpx.get(
            urlunsplit((parts.scheme, host, path, "", "")),
            auth=(parts.username or "guest", parts.password or "guest"),
            timeout=5,
        )
        answer.raise_for_status()
        return _read_figures(answer.json())
    except (httpx.HTTPError, KeyError, ValueError, TypeError):
        return None
