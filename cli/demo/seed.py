"""Makes the demo's certificate, handler and connection, through the API like anybody else."""

from __future__ import annotations

import base64
import socket
from pathlib import Path
from typing import Any, Final

import httpx

from cli.demo.certificate import PASSWORD, USER, DemoCertificate
from shared.errors import PosthouseError, TryAgain

HANDLER: Final = "demo"
_CERTIFICATE: Final = "Demo certificate"
_CONNECTION: Final = "Demo mailbox"


def seed(url: str, token: str, folder: Path, *, password: str, imap_port: int) -> None:
    """Brings the demo's objects about; what exists is kept, only the mailbox's port is corrected.

    Raises PosthouseError with the API's own words where it refuses.
    """
    with httpx.Client(
        base_url=f"{url}/api/v1/", headers={"Authorization": f"Bearer {token}"}, timeout=30
    ) as api:
        certificate = _find(api, "certificates", _CERTIFICATE)
        if certificate is None:
            certificate = _call(api, "POST", "certificates", json=_certificate(folder))
        if _find(api, "handlers", HANDLER) is None:
            handler = {"name": HANDLER, "enabled": True, "connections": "all"}
            _call(api, "POST", "handlers", json=handler)
        connection = _find(api, "connections", _CONNECTION)
        if connection is None:
            connection = _call(
                api,
                "POST",
                "connections",
                json={
                    "name": _CONNECTION,
                    "description": "Sample mails of every kind; `posthouse demo send` adds more.",
                    "mode": "imap",
                    "host": "127.0.0.1",
                    "port": imap_port,
                    "security": "none",
                    "username": USER,
                    "password": password,
                    "certificate_ids": [certificate["id"]],
                },
            )
            _call(
                api,
                "POST",
                f"connections/{connection['id']}/enable",
                json={"acknowledged": True, "start_from": "everything"},
            )
        elif connection.get("port") != imap_port:
            change = {"port": imap_port, "acknowledged": True}
            _call(api, "PATCH", f"connections/{connection['id']}", json=change)


def check_greeting(port: int) -> None:
    """Raises TryAgain until an IMAP server greets on this port."""
    try:
        with socket.create_connection(("127.0.0.1", port), timeout=2) as wire:
            greeting = wire.recv(512)
    except OSError as error:
        raise TryAgain(f"The demo mailbox on port {port} does not answer yet.") from error
    if not greeting.startswith(b"* OK"):
        raise TryAgain(f"The demo mailbox on port {port} answers {greeting!r}.")


def _certificate(folder: Path) -> dict[str, Any]:
    return {
        "name": _CERTIFICATE,
        "file": base64.b64encode(DemoCertificate.of(folder).pkcs12).decode(),
        "password": PASSWORD,
    }


def _find(api: httpx.Client, kind: str, name: str) -> dict[str, Any] | None:
    found = _call(api, "GET", kind, params={"q": name})
    items = found.get("items", []) if isinstance(found, dict) else found
    return next((item for item in items if item["name"] == name), None)


def _call(api: httpx.Client, method: str, path: str, **options: Any) -> Any:
    try:
        answer = api.request(method, path, **options)
        answer.raise_for_status()
        return answer.json() if answer.content else {}
    except httpx.HTTPStatusError as error:
        problem = error.response
        raise PosthouseError(
            f"The demo could not be set up: {method} {path} answered {problem.status_code}: "
            f"{problem.text[:500]}"
        ) from error
    except (httpx.HTTPError, ValueError) as error:
        raise TryAgain(f"The demo could not be set up: {error}") from error
