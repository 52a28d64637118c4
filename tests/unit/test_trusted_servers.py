"""The servers whose results a connection believes, as an administrator types them."""

from __future__ import annotations

from typing import Any

import pytest

from shared.connection_editing import edit
from shared.errors import InvalidInput

IMAP: dict[str, Any] = {
    "name": "a", "mode": "imap", "host": "h", "username": "u", "password": "p",
}  # fmt: skip


def test_they_are_kept_in_one_form() -> None:
    typed = IMAP | {"trusted_servers": " MX.example.org,mx2  mx.example.org"}
    assert edit(None, typed).connection.trusted_servers == "mx.example.org mx2"
    assert edit(None, IMAP | {"trusted_servers": ""}).connection.trusted_servers == ""


@pytest.mark.parametrize(
    "typed", ["mx;", "a=b", '"mx"', " ".join(f"mx{n}" for n in range(21)), "x" * 254]
)
def test_what_is_no_authserv_id_is_refused(typed: str) -> None:
    with pytest.raises(InvalidInput) as refused:
        edit(None, IMAP | {"trusted_servers": typed})
    assert refused.value.field == "trusted_servers"


def test_providers_have_presets_and_no_field() -> None:
    with pytest.raises(InvalidInput) as refused:
        edit(None, {"name": "a", "mode": "google-imap", "username": "u", "trusted_servers": "mx"})
    assert "trusted_servers" in [one.field for one in refused.value.every]
