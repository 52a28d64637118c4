"""SCRAM-SHA-256 (RFC 5802, RFC 7677): a login in which the password never goes over the stream.

Without channel binding (`-PLUS`): over TLS the certificate is checked anyway. What a server may ask
for in computation is bounded by the library.
"""

from __future__ import annotations

from scramp import ScramClient, ScramException

from shared.mailbox.failures import Refused

MECHANISM = "SCRAM-SHA-256"


class Scram:
    """The client's side of one login; `verified` once the server proved to know the password."""

    def __init__(self, username: str, password: str, *, nonce: str | None = None) -> None:
        try:
            self._client = ScramClient([MECHANISM], username, password, c_nonce=nonce)
        except (ScramException, ValueError) as error:  # characters that SASLprep forbids
            raise _failed("This username or password cannot be used with it.") from error
        self._turn = 0
        self.verified = False

    def first(self) -> bytes:
        """What the client says first."""
        return str(self._client.get_client_first()).encode()

    def respond(self, challenge: bytes) -> bytes:
        """The answer to the server's next message. Raises Refused where it is not to be trusted."""
        self._turn += 1
        try:
            text = challenge.decode()
            if self._turn == 1:
                self._client.set_server_first(text)
                return str(self._client.get_client_final()).encode()
            if self._turn == 2 and not text.startswith("e="):  # else its refusal follows
                self._client.set_server_final(text)
                self.verified = True
        except (ScramException, ValueError) as error:
            raise _failed("The server could not prove that it knows the password.") from error
        return b""


def _failed(reason: str) -> Refused:
    return Refused(
        f"The login with {MECHANISM} broke off. {reason}",
        step="login",
        code="scram-failed",
        hint="Check the host: somebody else may answer in its place.",
    )


def unproved() -> Refused:
    """The server said yes and never showed that it knows the password (RFC 5802 section 5)."""
    return _failed("The server let us in without a proof that it knows the password.")
