"""Makes the demo's certificate, handler and connection, through the API like anybody else."""

from __future__ import annotations

import socket
from pathlib import Path
from typing import Any, Final

import httpx

from cli.demo.certificate import PASSWORD, USER, DemoCertificate
from shared.errors import PosthouseError, TryAgain

HANDLER: Final = "demo"
_CERTIFICATE: Final = "Demo certificate"
_CONNECTION: Final = "Demo mailbox"


def seed(
    url: str,
    token: str,
    folder: Path,
    *,
    password: str,
    imap_port: int,
    handler_secrets: tuple[str, str] | None,
) -> tuple[str, str]:
    """Brings the demo's objects about; what exists is kept, only the mailbox's port is corrected.

    Returns token and signing key of the handler: those given where it is there already. Raises
    PosthouseError with the API's own words where it refuses.
    """
    with httpx.Client(
        base_url=f"{url}/api/v1/", headers={"Authorization": f"Bearer {token}"}, timeout=60
    ) as api:
        certificate = _find(api, "certificates", _CERTIFICATE)
        if certificate is None:
            certificate = _call(
                api,
                "POST",
                "certificates",
                files={"file": ("demo.p12", DemoCertificate.of(folder).pkcs12)},
                data={"password": PASSWORD, "name": _CERTIFICATE},
            )
        handler = _find(api, "handlers", HANDLER)
        if handler is None:
            handler = {"name": HANDLER, "description": "Prints what it gets.", "connections": "all"}
            made = _call(api, "POST", "handlers", json=handler)
            handler_secrets = made["token"], made["signing_key"]
        elif handler_secrets is None:
            address = f"handlers/{handler['id']}"
            handler_secrets = (
                _call(api, "POST", f"{address}/token")["token"],
                _call(api, "POST", f"{address}/signing-key")["signing_key"],
            )
        _connection(api, certificate["id"], password, imap_port)
    return handler_secrets


def fetch_now(url: str, token: str) -> None:
    """Asks for a look into the demo mailbox before its next minute. Raises PosthouseError."""
    with httpx.Client(
        base_url=f"{url}/api/v1/", headers={"Authorization": f"Bearer {token}"}, timeout=10
    ) as api:
        connection = _find(api, "connections", _CONNECTION)
        if connection is not None:
            _call(api, "POST", f"connections/{connection['id']}/fetch")


def _connection(api: httpx.Client, certificate_id: int, password: str, imap_port: int) -> None:
    connection = _find(api, "connections", _CONNECTION)
    if connection is None:
        wanted = {
            "name": _CONNECTION,
            "description": "Sample mails of every kind; `posthouse demo send` adds more.",
            "mode": "imap",
            "host": "127.0.0.1",
            "port": imap_port,
            "security": "none",
            "username": USER,
            "password": password,
            "certificate_ids": [certificate_id],
            "enabled": True,
            "acknowledged": True,
        }
        _call(api, "POST", "connections", json=wanted)
    elif connection["port"] != imap_port:
        change = {"port": imap_port, "password": password, "acknowledged": True}
        _call(api, "PATCH", f"connections/{connection['id']}", json=change)


def check_greeting(port: int) -> None:
    """Raises TryAgain until an IMAP server greets on this port."""
    try:
        with socket.create_connection(("127.0.0.1", port), timeout=2) as connection:
            greeting = connection.recv(512)
    except OSError as error:
        raise TryAgain(f"The demo mailbox on port {port} does not answer yet.") from error
    if not greeting.startswith(b"* OK"):
        raise TryAgain(f"The demo mailbox on port {port} answers {greeting!r}.")


def _find(api: httpx.Client, kind: str, name: str) -> dict[str, Any] | None:
    items: list[dict[str, Any]] = _call(api, "GET", kind, params={"q": name})["items"]
    return next((item for item in items if item["name"] == name), None)


def _call(api: httpx.Client, method: str, path: str, **options: Any) -> Any:
    try:
        answer = api.request(method, path, **options)
        answer.raise_for_status()
        return answer.json() if answer.content else {}
    except httpx.HTTPStatusError as error:
        problem = error.response
        raise PosthouseError(
            f"{method} {path} answered {problem.status_code}: {problem.text[:500]}"
        ) from error
    except (httpx.HTTPError, ValueError) as error:
        raise TryAgain(f"The API at {api.base_url} does not answer: {error}") from error
