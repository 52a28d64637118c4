"""The jobs that travel through the broker: ids and nothing else.

A job is a hint that work may be waiting; Postgres says whether it is. So a job may be lost,
doubled or late without harm.
"""

from __future__ import annotations

from typing import Final

#: Queues of the jobs, by the broker's own word. The slow lane takes connections whose last run
#: was slow, failed or left a backlog, so that they never stand in front of the quick ones.
FETCH_QUEUE: Final = "fetch"
FETCH_SLOW_QUEUE: Final = "fetch-slow"
DECRYPT_QUEUE: Final = "decrypt"

#: Actor names: fetch(connection_ids, correlation_id), decrypt(message_ids, correlation_id).
FETCH_ACTOR: Final = "fetch"
DECRYPT_ACTOR: Final = "decrypt"
