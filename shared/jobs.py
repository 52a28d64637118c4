"""The jobs that travel through the broker: ids and nothing else.

A job is a hint that work may be waiting; Postgres says whether it is. So a job may be lost,
doubled or late without harm.
"""

from __future__ import annotations

import re
from typing import Final

#: Queues of the jobs, by the broker's own word. The slow lane takes connections whose last run
#: was slow, failed or left a backlog, so that they never stand in front of the quick ones.
FETCH_QUEUE: Final = "fetch"
FETCH_SLOW_QUEUE: Final = "fetch-slow"
DECRYPT_QUEUE: Final = "decrypt"
#: How the name begins of the queue of one fetcher: polls over sessions that it keeps open.
_OWN: Final = "fetch.at."
#: What the names of queues may not have (dramatiq's rule, which both brokers keep).
_UNFIT: Final = re.compile(r"[^A-Za-z0-9._-]")

#: Actor names: fetch(connection_ids, correlation_id), decrypt(message_ids, correlation_id).
FETCH_ACTOR: Final = "fetch"
DECRYPT_ACTOR: Final = "decrypt"


def own_queue(fetcher: str) -> str:
    """The queue of the fetcher that is named so in `connection_state.affinity`."""
    return _OWN + _UNFIT.sub("-", fetcher)


def label_of(queue: str) -> str:
    """A queue as metrics name it: fetchers come and go, so theirs have one name together."""
    return _OWN.rstrip(".") if queue.startswith(_OWN) else queue
