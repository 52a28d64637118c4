"""One forwarded handler: a consumer of its queue whose callback sends."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Final

import structlog

from posthouse import AccessRefused, Consumer, MailEvent
from services.forwarder.attempt_log import AttemptLog
from services.forwarder.circuit_breaker import CircuitBreaker
from services.forwarder.event_forwarding import EventForwarding
from services.forwarder.retries import Retries
from services.forwarder.settings import ForwarderSettings
from shared.allowed_hosts import HostRules
from shared.errors import PosthouseError
from shared.forwarding.endpoint_clients import open_endpoint_client
from shared.forwarding.unsealing import open_endpoint, open_signing_keys
from shared.forwards import ForwardOrder
from shared.storage.forwards import SealedForward
from shared.vault import Vault

_log = structlog.get_logger(__name__)

#: `retry_for_seconds` decides when an event is given up, however often it was tried.
_NO_LIMIT: Final = 1_000_000_000
#: Seconds until a worker that cannot work (a key is missing, say) tries to.
_AGAIN_S: Final = 10.0
#: Seconds beyond the endpoint's timeout that attempts get to end in when the worker stops.
_GRACE_S: Final = 5.0


class ForwardWorker:
    """Runs in a thread of its own until it is stopped. A changed forward gets another worker."""

    def __init__(
        self,
        forward: SealedForward,
        *,
        settings: ForwarderSettings,
        vault: Vault,
        hosts: HostRules,
        retries: Retries,
        log: AttemptLog,
        gone: Callable[[int, str], None],
        gave_up: Callable[[int, str], None],
        reached: Callable[[str], object],
    ) -> None:
        self.forward = forward
        self.breaker = CircuitBreaker()
        self._settings = settings
        self._vault = vault
        self._hosts = hosts
        self._retries = retries
        self._log = log
        self._gone = gone
        self._gave_up = gave_up
        self._reached = reached
        self._stop = threading.Event()
        self._thread = threading.Thread(
            target=self._run, name=f"worker-{forward.name}", daemon=True
        )

    @property
    def is_alive(self) -> bool:
        return self._thread.is_alive()

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        """Attempts on their way end; everything else goes back to the queue."""
        self._stop.set()
        self.breaker.leave()

    def join(self) -> None:
        self._thread.join()

    def _run(self) -> None:
        while not self._stop.is_set():
            try:
                self._consume()
            except (PosthouseError, AccessRefused, ValueError) as error:
                _log.error("handler not forwarded", handler=self.forward.name, error=str(error))
            except Exception:  # the worker begins anew after a pause
                _log.exception("handler not forwarded", handler=self.forward.name)
            self._stop.wait(_AGAIN_S)

    def _consume(self) -> None:
        forward = self.forward
        endpoint = open_endpoint(forward, self._vault)
        concurrency = endpoint.options.concurrency
        client = open_endpoint_client(endpoint, self._hosts)
        consumer = Consumer(
            self._settings.effective_output_url,
            forward.name,
            concurrency=concurrency,
            prefetch=2 * concurrency,
            max_deliveries=_NO_LIMIT,
            stale_after_s=self._settings.forward_stale_seconds,
            stop_timeout_s=endpoint.options.timeout_seconds + _GRACE_S,
            signing_key=open_signing_keys(forward, self._vault),
            order_by=_connection if endpoint.options.order is ForwardOrder.CONNECTION else None,
        )
        forwarding = EventForwarding(
            handler_id=forward.handler_id,
            endpoint=endpoint,
            public_url=self._settings.public_url,
            send=client.send,
            breaker=self.breaker,
            retries=self._retries,
            log=self._log,
            gone=lambda reason: self._gone(forward.handler_id, reason),
            gave_up=lambda reason: self._gave_up(forward.handler_id, reason),
            reached=self._reached,
        )
        try:
            consumer.run(forwarding, stop=self._stop)
        finally:
            client.close()


def _connection(event: MailEvent) -> int:
    return event.connection.id
