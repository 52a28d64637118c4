"""An account at the broker for one handler's program: what it may do, and how it is made.

It consumes and acknowledges its own queue and moves events to its own dead letters; it reads
no other queue and writes no event.
"""

from __future__ import annotations

import hashlib
import re
import shlex
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote, urlsplit, urlunsplit

import httpx
import redis

#: What `posthouse.redis_source` and `posthouse.following` ask of the stream.
_STREAM = (
    "+xreadgroup +xread +xack +xclaim +xautoclaim +xpending +xrange +xrevrange "
    "+xinfo|consumers +xgroup|delconsumer"
)
#: What every connection does; MULTI and EXEC permit nothing that is not permitted beside them.
_CONNECTION = "+ping +hello +auth +select +client|setname +multi +exec +discard"
#: Redis learned selectors, which tell the keys of one command from those of another, in 7.0.
_SELECTORS = (7, 0)
#: Clients tell their library's name since 7.2; they go on where that is refused.
_SETINFO = (7, 2)


@dataclass(frozen=True, slots=True, kw_only=True)
class BrokerAccount:
    """An account of a handler's program.

    `made`: it is there; else `commands` make it, for somebody who may. `note`: what is left to do.
    """

    user: str
    password: str
    made: bool
    commands: tuple[str, ...]
    note: str = ""


def user_of(handler: str) -> str:
    return f"posthouse-handler-{handler}"


def redis_rules(stream: str, dead: str, password: str, version: tuple[int, int]) -> list[str]:
    """The arguments of ACL SETUSER after the name."""
    digest = hashlib.sha256(password.encode()).hexdigest()
    rules = ["reset", "on", f"#{digest}", f"~{stream}", *_STREAM.split(), *_CONNECTION.split()]
    if version >= _SETINFO:
        rules.append("+client|setinfo")
    if version >= _SELECTORS:
        return [*rules, f"(~{dead} +xadd)"]
    return [*rules, f"~{dead}", "+xadd"]


def make_redis_account(
    client: Any, handler: str, stream: str, dead: str, password: str
) -> BrokerAccount:
    """Raises redis.RedisError where the server cannot be asked at all."""
    user = user_of(handler)
    major, minor, *_ = str(client.info("server")["redis_version"]).split(".")
    version = int(major), int(minor)
    rules = redis_rules(stream, dead, password, version)
    commands = (shlex.join(["redis-cli", "ACL", "SETUSER", user, *rules]), "redis-cli ACL SAVE")
    notes = []
    if version < _SELECTORS:
        notes.append(
            "Redis before 7.0 cannot tell the keys of one command from another's: this account can "
            "also add to its own stream, to which the SDK moves what is not signed."
        )
    try:
        client.execute_command("ACL SETUSER", user, *rules)
    except redis.exceptions.NoPermissionError:
        made = False
        notes.insert(0, "Posthouse's own account may not make accounts: run the commands.")
    else:
        made = True
        try:
            client.execute_command("ACL SAVE")
        except redis.exceptions.ResponseError:
            notes.append(
                "The server keeps no ACL file, so it forgets this account when it is restarted: "
                "give it an `aclfile`, or put the account into its configuration."
            )
    return BrokerAccount(
        user=user, password=password, made=made, commands=commands, note=" ".join(notes)
    )


def remove_redis_account(client: Any, handler: str) -> None:
    client.execute_command("ACL DELUSER", user_of(handler))
    client.execute_command("ACL SAVE")


def rabbitmq_permissions(queue: str, dead: str) -> dict[str, str]:
    """Declares nothing, writes to the exchange of its dead letters, reads its queue."""
    return {
        "configure": "^$",
        "write": f"^{re.escape(dead).replace(chr(92) + '-', '-')}$",
        "read": f"^{re.escape(queue).replace(chr(92) + '-', '-')}$",
    }


def make_rabbitmq_account(
    management_url: str, vhost: str, handler: str, queue: str, dead: str, password: str
) -> BrokerAccount:
    """By the management plugin, where its address is known and its user is an administrator."""
    user = user_of(handler)
    permissions = rabbitmq_permissions(queue, dead)
    commands = (
        shlex.join(["rabbitmqctl", "add_user", user, password]),
        shlex.join(["rabbitmqctl", "set_permissions", "-p", vhost, user, *permissions.values()]),
    )
    note = (
        "Posthouse makes accounts where OUTPUT_MANAGEMENT_URL names a user with the tag "
        "`administrator`: run the commands."
    )
    made = False
    if management_url:
        answers = [
            _managed(management_url, "PUT", f"users/{user}", {"password": password, "tags": ""}),
            _managed(
                management_url, "PUT", f"permissions/{quote(vhost, safe='')}/{user}", permissions
            ),
        ]
        made = all(answers)
    return BrokerAccount(
        user=user, password=password, made=made, commands=commands, note="" if made else note
    )


def remove_rabbitmq_account(management_url: str, handler: str) -> None:
    if management_url:
        _managed(management_url, "DELETE", f"users/{user_of(handler)}", None)


def _managed(url: str, method: str, path: str, body: dict[str, str] | None) -> bool:
    """Whether the management plugin did it."""
    parts = urlsplit(url)
    address = urlunsplit(
        (
            parts.scheme,
            parts.netloc.rpartition("@")[2],
            f"{parts.path.rstrip('/')}/api/{path}",
            "",
            "",
        )
    )
    try:
        answer = httpx.request(
            method,
            address,
            json=body,
            auth=(parts.username or "guest", parts.password or "guest"),
            timeout=5,
        )
    except httpx.HTTPError:
        return False
    return answer.is_success
