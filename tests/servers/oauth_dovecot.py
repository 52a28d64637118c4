"""A Dovecot that takes access tokens of the tests' authorisation server: XOAUTH2 and OAUTHBEARER.

The tokens are checked by Dovecot itself (local validation of the JWT's signature, issuer and end);
the user that logs in must be the token's `email`, but for SHARED: a mailbox that one person may
open with a token of their own, as Exchange's Full Access has it.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from tests.servers.certificates import Authority
from tests.servers.dovecot import Dovecot
from tests.servers.oidc import OidcServer

#: A shared mailbox, and the person who may open it.
SHARED = ("team@example.org", "alice@example.org")


@contextmanager
def oauth_dovecot_server(
    authority: Authority, oidc: OidcServer, mechanisms: str = "xoauth2 oauthbearer"
) -> Iterator[Dovecot]:
    """Dovecot with passwords (for other people) and tokens of `oidc`."""
    server = Dovecot(
        tls=authority.issue("localhost", "127.0.0.1"),
        mechanisms=("plain", "login", *mechanisms.split()),
    )
    keys = server.folder / "keys" / "default" / "RS256"
    keys.mkdir(parents=True)
    (keys / "test").write_bytes(oidc.public_key.read_bytes())
    settings, delegated = server.folder / "oauth2.conf", server.folder / "shared.conf"
    settings.write_text(
        "introspection_mode = local\n"
        f"local_validation_key_dict = fs:posix:prefix={server.folder}/keys/\n"
        "username_attribute = email\n"
        f"issuers = {oidc.issuer}\n"
        # What Google's and Microsoft's servers say on a refusal is JSON too (RFC 7628 3.2.2).
        "openid_configuration_url = https://example.org/.well-known/openid-configuration\n"
    )
    mailbox, person = SHARED
    delegated.write_text(
        # The person's own token, for a mailbox of another name in the same domain.
        settings.read_text() + "username_format = %d\n"
        f"active_attribute = email\nactive_value = {person}\n"
    )
    for path in (server.folder / "keys", keys.parent, keys, settings, delegated, keys / "test"):
        path.chmod(0o755 if path.is_dir() else 0o644)
    for where, only in ((settings, ""), (delegated, f" username_filter = {mailbox}\n")):
        server.extra += (
            f"\npassdb {{\n driver = oauth2\n mechanisms = {mechanisms}\n{only}"
            f" args = {where}\n}}\n"
        )
    with server:
        yield server


@pytest.fixture(scope="session")
def oauth_dovecot(authority: Authority, oidc: OidcServer) -> Iterator[Dovecot]:
    """The session's Dovecot with OAuth2."""
    with oauth_dovecot_server(authority, oidc) as server:
        yield server
