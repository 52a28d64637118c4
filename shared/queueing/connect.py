"""Connections to the brokers: how long they may take, and what their failures mean.

Everything that leaves this package is an error of `shared.errors`; the text names host and port,
never the user or the password.
"""

from __future__ import annotations

import logging
import socket
from typing import Any, Final
from urllib.parse import urlsplit

import pika
import pika.exceptions
import redis
import redis.backoff
import redis.exceptions
import redis.retry

from posthouse.broker_address import RABBITMQ_SCHEMES, REDIS_SCHEMES, SCHEMES, split_sentinels
from posthouse.redis_connection import is_wrong_server, open_moving_client
from shared.errors import InvalidInput, NeedsPerson, PosthouseError, TryAgain

#: Seconds that a connection attempt, and an answer on an open connection, may take.
CONNECT_TIMEOUT_S: Final = 5.0
ANSWER_TIMEOUT_S: Final = 15.0


class BrokerDown(TryAgain):
    """The broker cannot be reached or broke off; nothing is wrong with what was asked."""

    code = "broker-down"


class BrokerRefused(NeedsPerson):
    """The broker is there and does not let us in, or not do what we must."""

    code = "broker-refused"


def scheme_of(url: str) -> str:
    """`redis` or `rabbitmq`. Raises InvalidInput for any other kind of address."""
    scheme = urlsplit(url).scheme
    if scheme in REDIS_SCHEMES:
        return "redis"
    if scheme in RABBITMQ_SCHEMES:
        return "rabbitmq"
    raise InvalidInput(
        f"There is no broker for {scheme + '://' if scheme else 'an address without a scheme'}.",
        field="broker_url",
        hint=f"Use one of {SCHEMES}",
    )


def place(url: str) -> str:
    """`Redis at host:port` or `RabbitMQ at host:port`: safe to show and to log."""
    parts = urlsplit(url)
    try:
        if sentinels := split_sentinels(url):
            named = ", ".join(f"{host}:{port}" for host, port in sentinels.hosts)
            return f"Redis {sentinels.service} of the Sentinels at {named}"
    except ValueError:
        return "The broker"
    kind, default = {
        "redis": ("Redis", 6379),
        "rediss": ("Redis", 6379),
        "amqp": ("RabbitMQ", 5672),
        "amqps": ("RabbitMQ", 5671),
    }.get(parts.scheme, ("The broker", 0))
    try:
        port = parts.port or default
    except ValueError:
        port = default
    return f"{kind} at {parts.hostname or 'localhost'}:{port}"


def redis_client(url: str, *, answer_timeout_s: float = ANSWER_TIMEOUT_S) -> Any:
    """A Redis client (RESP2, bytes) that never repeats a command by itself.

    A repeated XADD would be a second event; whoever asked decides whether to ask again. After a
    failover it connects anew (`posthouse.redis_connection`).
    """
    try:
        return open_moving_client(
            url,
            protocol=2,
            socket_connect_timeout=CONNECT_TIMEOUT_S,
            socket_timeout=answer_timeout_s,
            socket_keepalive=True,
            health_check_interval=30,
            retry=redis.retry.Retry(redis.backoff.NoBackoff(), 0),
        )
    except ValueError as error:
        raise _unusable(url) from error


def refuse_cluster(url: str) -> None:
    """Raises InvalidInput where the address leads to a node of a Redis Cluster.

    Queues, their locks and their dead letters are keys that one script or transaction changes
    together, and such a cluster keeps them on different nodes. A server that does not answer is
    asked again by whoever works with it.
    """
    if scheme_of(url) != "redis":
        return
    try:
        with redis_client(url, answer_timeout_s=CONNECT_TIMEOUT_S) as client:
            found = client.info("cluster")
    except redis.exceptions.RedisError as error:
        # A node of a cluster has one database: it may refuse to choose another.
        if "cluster mode" not in str(error):
            return
        found = {"cluster_enabled": 1}
    if found.get("cluster_enabled"):
        raise InvalidInput(
            f"{place(url)} is a node of a Redis Cluster, which Posthouse does not work with.",
            field="broker_url",
            hint="Use one Redis or Valkey, with replicas and Sentinels or behind one address, or "
            "RabbitMQ.",
        )


def rabbitmq_parameters(url: str) -> pika.URLParameters:
    """Connection parameters with every wait bounded. Raises InvalidInput on a broken address."""
    try:
        parameters = pika.URLParameters(url)
    except (ValueError, TypeError) as error:
        raise _unusable(url) from error
    # pika tells of each failed attempt in a dozen lines with stacks; the error says it once.
    logging.getLogger("pika").setLevel(logging.CRITICAL)
    parameters.socket_timeout = CONNECT_TIMEOUT_S
    parameters.stack_timeout = 2 * CONNECT_TIMEOUT_S
    parameters.blocked_connection_timeout = 2 * ANSWER_TIMEOUT_S
    parameters.connection_attempts = 1
    if "heartbeat=" not in url:
        parameters.heartbeat = 30
    return parameters


def translated(error: BaseException, url: str) -> PosthouseError:
    """What a failure of redis-py, pika or the socket means. Raise it `from error`."""
    if isinstance(error, PosthouseError):
        return error
    where = place(url)
    inner = _innermost(error)
    if _is_refusal(inner):
        return BrokerRefused(
            f"{where} refuses the user name, the password or the virtual host.",
            hint="Check BROKER_URL and OUTPUT_URL: user, password, database or virtual host.",
        )
    if isinstance(inner, redis.exceptions.NoPermissionError):
        return BrokerRefused(
            f"{where} does not permit this user what Posthouse needs: {inner}.",
            hint="Give the user the commands and keys of posthouse:* and dramatiq:*.",
        )
    if isinstance(inner, redis.exceptions.OutOfMemoryError):
        return BrokerDown(
            f"{where} is out of memory and takes nothing more.",
            hint="Raise maxmemory, or let the handlers work off their backlog.",
        )
    if isinstance(inner, pika.exceptions.ConnectionBlockedTimeout):
        return BrokerDown(
            f"{where} is out of memory or disk space and takes nothing more.",
            hint="Give its nodes room (`rabbitmqctl status` lists alarms), or let the handlers "
            "work off their backlog.",
        )
    if isinstance(inner, redis.exceptions.ResponseError) and str(inner).startswith("MISCONF"):
        return BrokerDown(
            f"{where} cannot write its data to its disk and takes nothing more.",
            hint="Make room on its disk; its log says what fails.",
        )
    if is_wrong_server(inner):
        return BrokerDown(f"{where} failed over or is not ready: {inner}. It is asked again.")
    if isinstance(inner, socket.gaierror):
        return BrokerDown(f"{where}: the host name does not resolve.")
    detail = str(inner).strip().rstrip(".") or type(inner).__name__
    return BrokerDown(f"{where} does not answer: {detail[:300]}.")


def _innermost(error: BaseException) -> BaseException:
    """pika wraps the cause of a failed connection in lists of attempts."""
    while True:
        attempts = getattr(error, "exceptions", None)
        cause = attempts[-1] if attempts else getattr(error, "exception", None)
        if not isinstance(cause, BaseException):
            break
        error = cause
    if (
        isinstance(error, pika.exceptions.AMQPConnectionError)
        and error.args
        and isinstance(error.args[0], BaseException)
    ):
        return _innermost(error.args[0])
    return error


def _is_refusal(error: BaseException) -> bool:
    if isinstance(
        error,
        redis.exceptions.AuthenticationError
        | pika.exceptions.AuthenticationError
        | pika.exceptions.ProbableAuthenticationError
        | pika.exceptions.ProbableAccessDeniedError,
    ):
        return True
    # 403 ACCESS-REFUSED, 530 NOT-ALLOWED (AMQP 0-9-1 section 1.3, reply codes).
    return getattr(error, "reply_code", None) in {403, 530}


def _unusable(url: str) -> InvalidInput:
    return InvalidInput(
        f"The address of {place(url)} cannot be used.",
        field="broker_url",
        hint="Special characters in user and password are written as %XX.",
    )
