"""Publishes events to a JetStream stream, each acknowledged by the server's PubAck.

CloudEvents 1.0.2 NATS protocol binding. `Nats-Msg-Id` is the idempotency key, so within the
stream's duplicate window a repeat is confirmed and not stored again. JetStream compares these ids
over all subjects of a stream: where another handler's subject lies in the same stream, its event of
the same mail would stand for ours, so ours has the subject behind its id.
"""

from __future__ import annotations

import asyncio
import threading
import time
from typing import Any, Final

import nats
import nats.errors
import nats.js.errors
from nats.aio.client import Client, RawCredentials
from nats.js import JetStreamContext, api

from shared.allowed_hosts import HostRules
from shared.errors import PosthouseError
from shared.forwarding.content_modes import fields_and_body
from shared.forwarding.nats_transport import GuardedClient
from shared.forwarding.outcome import ForwardOutcome, delivered, too_large, unavailable
from shared.forwards import Endpoint, servers_of
from shared.mailbox.net.tls import tls_context

_CONNECT_S: Final = 5.0
#: JetStream's error code: "message size exceeds maximum allowed" (nats-server's errors.json).
_LARGER_THAN_STREAM_TAKES: Final = 10054
_STRUCTURED: Final = "application/cloudevents+json"


class NatsClient:
    """One connection, on an event loop in a thread of its own. Thread-safe. Close it."""

    def __init__(self, endpoint: Endpoint, hosts: HostRules | None) -> None:
        """Raises Refused where CA or client certificate cannot be read."""
        self._endpoint = endpoint
        self._hosts = hosts
        options = endpoint.options
        self._context = tls_context(
            True, options.ca_certificate or None, endpoint.client_certificate or None
        )
        self._timeout_s = float(options.timeout_seconds)
        self._client: Client | None = None
        self._complaint: Exception | None = None
        self._shares_stream = False
        self._loop = asyncio.new_event_loop()
        self._connecting = asyncio.Lock()
        self._thread = threading.Thread(target=self._loop.run_forever, name="nats", daemon=True)
        self._thread.start()

    def send(self, key: str, event: bytes) -> ForwardOutcome:
        """See `EndpointClient`."""
        started = time.monotonic()
        return asyncio.run_coroutine_threadsafe(
            self._sent(key, event, started), self._loop
        ).result()

    def close(self) -> None:
        if self._loop.is_closed():
            return
        asyncio.run_coroutine_threadsafe(self._end(), self._loop).result()
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    async def _sent(self, key: str, event: bytes, started: float) -> ForwardOutcome:
        subject = self._endpoint.options.subject
        form = self._endpoint.options.format
        fields, body = fields_and_body(event, form, structured=_STRUCTURED, prefix="ce-")
        self._complaint = None
        try:
            client = await self._connected()
            stream = client.jetstream(timeout=self._timeout_s)
            ack = await self._published(stream, key, subject, body, fields)
        except PosthouseError as error:
            return unavailable(started, str(error))
        except nats.errors.MaxPayloadError:
            return too_large(started, "It is larger than the NATS server's max_payload.")
        except nats.js.errors.NoStreamResponseError:
            return unavailable(
                started,
                f"No stream takes the subject {subject!r}: make one there "
                f"(nats stream add NAME --subjects {subject}), or correct the subject.",
            )
        except nats.js.errors.APIError as error:
            if error.err_code == _LARGER_THAN_STREAM_TAKES:
                return too_large(started, "It is larger than the stream's max_msg_size.")
            return unavailable(started, f"JetStream refused it: {error.description}.")
        except (nats.errors.TimeoutError, TimeoutError):
            return unavailable(started, self._reason(None))
        except (nats.errors.Error, OSError, ValueError) as error:
            await self._disconnect()
            return unavailable(started, self._reason(error))
        already = " already" if ack.duplicate else ""
        return delivered(started, f"{ack.stream} has it{already}, as {ack.seq}")

    async def _published(
        self, stream: JetStreamContext, key: str, subject: str, body: bytes, fields: dict[str, str]
    ) -> api.PubAck:
        if not self._shares_stream:
            fields[api.Header.MSG_ID.value] = key
            ack = await stream.publish(subject, body, headers=fields)
            if not ack.duplicate or await _is_stored(stream, ack, subject):
                return ack
            self._shares_stream = True
        fields[api.Header.MSG_ID.value] = f"{key}/{subject}"
        return await stream.publish(subject, body, headers=fields)

    async def _connected(self) -> Client:
        async with self._connecting:
            if self._client is not None and self._client.is_connected:
                return self._client
            await self._disconnect()
            failure: Exception | None = None
            scheme = self._endpoint.address.partition(":")[0]
            for host, port in servers_of(self._endpoint.address):
                shown = f"[{host}]" if ":" in host else host
                client = GuardedClient(self._hosts)
                try:
                    await client.connect(
                        f"{scheme}://{shown}:{port}",
                        name="Posthouse",
                        tls=self._context,
                        tls_hostname=host,
                        connect_timeout=min(_CONNECT_S, self._timeout_s),  # type: ignore[arg-type]
                        allow_reconnect=False,  # the next event connects
                        error_cb=self._complained,
                        **login_of(self._endpoint),
                    )
                except Exception as error:  # the next server may answer
                    failure = error
                    continue
                self._client = client
                return client
            raise failure or nats.errors.NoServersError

    async def _complained(self, error: Exception) -> None:
        self._complaint = error

    def _reason(self, error: Exception | None) -> str:
        """In words why it did not come off. What the server complains of, it does not send as an
        answer."""
        why = self._complaint or error
        if why is None:
            return "No confirmation in time."
        if isinstance(why, nats.errors.SecureConnRequiredError):
            return "The NATS server offers no TLS; nothing was said to it."
        if isinstance(why, PosthouseError):
            return str(why)
        return f"NATS: {str(why) or type(why).__name__}."

    async def _end(self) -> None:
        """Closed, and without what nats-py leaves to be ended later."""
        await self._disconnect()
        left = asyncio.all_tasks() - {asyncio.current_task()}
        for task in left:
            task.cancel()
        await asyncio.gather(*left, return_exceptions=True)

    async def _disconnect(self) -> None:
        client, self._client = self._client, None
        if client is not None and not client.is_closed:
            await client.close()


async def _is_stored(stream: JetStreamContext, ack: api.PubAck, subject: str) -> bool:
    """Whether what the server took for the same message is of this subject. False also where it may
    not be read, or is there no longer: better twice than lost."""
    try:
        return (await stream.get_msg(ack.stream, seq=ack.seq)).subject == subject
    except (nats.errors.Error, TimeoutError):
        return False


def login_of(endpoint: Endpoint) -> dict[str, Any]:
    """Arguments of nats-py. `creds`: the text of a .creds file, a JWT with its nkey."""
    given = endpoint.credentials
    if "creds" in given:
        return {"user_credentials": RawCredentials(given["creds"])}
    if "nkey" in given:
        return {"nkeys_seed_str": given["nkey"]}
    if "token" in given:
        return {"token": given["token"]}
    if given:
        return {"user": given["username"], "password": given["password"]}
    return {}
