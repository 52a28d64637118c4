"""What an event says beside the mail: its connection, octets, and findings about its security."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any


@dataclass(frozen=True, slots=True)
class Connection:
    """The mailbox that the mail came from. `mailbox` is the user name or the shared mailbox."""

    id: int
    name: str = ""
    mode: str = ""
    mailbox: str = ""


@dataclass(frozen=True, slots=True)
class Headers:
    """A few header fields, decoded (RFC 2047); empty where the mail has none.

    `sender` is the field `from` of the JSON, the address of the first author, and empty where From
    has none; `date` is the Date field where it says one instant. `to_names` and `cc_names` have a
    display name for each address, empty where the sender gave none.
    """

    message_id: str = ""
    sender: str = ""
    to: tuple[str, ...] = ()
    cc: tuple[str, ...] = ()
    subject: str = ""
    date: datetime | None = None
    sender_name: str = ""
    to_names: tuple[str, ...] = ()
    cc_names: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Raw:
    """The octets of a mail (RFC 5322): either `inline`, or at `url` for the handler's token."""

    inline: bytes | None = None
    url: str | None = None


@dataclass(frozen=True, slots=True)
class Original:
    """The mail as it was downloaded, where `raw` is what was decrypted or signed in it."""

    url: str
    size: int
    sha256: str


@dataclass(frozen=True, slots=True)
class Redelivery:
    """Why a handler that had this mail gets it once more: somebody asked for it.

    `count` rises with every asking, of this mail; `reason` is what was given: `requested` where
    nothing was, `opened-again` where the mail stayed encrypted before.
    """

    count: int
    time: datetime
    reason: str = ""


@dataclass(frozen=True, slots=True)
class Layer:
    """One layer of a mail. `kind`: `encryption`, `signature`, `compression`; `format`: `smime`,
    `openpgp`.

    `verdict` is a word of `Security.status` or of `Security.signature`; `covers` is what a
    signature lies around: `content`, `ciphertext` (an encryption inside it) or `part`.
    """

    kind: str
    format: str
    verdict: str
    signer: str = ""
    covers: str = ""


@dataclass(frozen=True, slots=True)
class Revocation:
    """Whether the authority has revoked the certificate of the signer, as far as it was known when
    the mail was judged.

    `status`: `good`, `revoked`, `unknown` (there is no answer that counts), `not-checked` (nobody
    was asked yet). `source`: `crl` or `ocsp`. `as_of` is the time for which the authority spoke,
    None where it did not.
    """

    status: str = "not-checked"
    source: str = ""
    as_of: datetime | None = None
    reason: str = ""
    revoked_at: datetime | None = None


@dataclass(frozen=True, slots=True)
class Security:
    """What Posthouse found out about encryption and signature. `details` has every field.

    `status`: `none`, `decrypted`, or why not (`no_recipient`, `unsupported`, `failed`).
    `signature`: `none`, `valid`, or what keeps it from being that: `mismatch` (the signer is not
    the one author that the mail shows, or signed for the recipients of another mail), `partial` (it
    does not cover all of the content), `ambiguous` (readers differ on what the mail says),
    `untrusted` (nobody vouches for the signer), `revoked` (the certificate by its
    authority, or the OpenPGP key by its owner), `invalid` (changed, or not to be read).
    `integrity`: `none` or `aead`. `revocation` is None where no trust anchor vouches for the
    signer.
    """

    encrypted: bool = False
    status: str = "none"
    certificate: str = ""
    integrity: str = "none"
    signature: str = "none"
    signer: str = ""
    reason: str = ""
    #: From the outermost to the innermost.
    layers: tuple[Layer, ...] = ()
    revocation: Revocation | None = None
    details: Mapping[str, Any] = field(default_factory=dict, repr=False)
