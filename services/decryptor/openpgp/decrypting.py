"""Decrypting one OpenPGP message with the uploaded keys, through a file of bounded size."""

from __future__ import annotations

import contextlib
import errno
import mmap
import re
import resource
import threading
from collections import Counter
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import NamedTuple

from pysequoia import PyDecryptor, decrypt_file

from services.decryptor.cms.errors import CmsError, Malformed, NoRecipient, NotOpened, Unsupported
from services.decryptor.layer_facts import PgpSignature
from services.decryptor.openpgp.bounded_work import bounded_work
from services.decryptor.openpgp.compression import too_large
from services.decryptor.openpgp.intended_recipients import fingerprints_of
from services.decryptor.openpgp.opened_packets import read_packets
from services.decryptor.openpgp.packets import octets_of, why_not_one_message
from services.decryptor.openpgp.recipients import (
    ANYONE,
    Addressed,
    EncryptedSessionKey,
    is_ordinary,
    narrowed,
    whole_message,
)
from services.decryptor.openpgp.reencryption import (
    MANY_SIGNATURES,
    MAX_BYTES,
    decrypted,
    for_password,
    reencrypted,
)
from services.decryptor.openpgp.secret_parts import OtherKey
from services.decryptor.openpgp.sender_keys import Rings, SenderKeys, judge_failure, with_hints
from services.decryptor.openpgp.signature_counts import LOOK, has_many_signatures
from services.decryptor.openpgp.unsigned_messages import is_unsigned
from services.decryptor.openpgp.verifying import (
    FOR_WHOM_UNREAD,
    NOT_VERIFIED,
    for_whom,
    verify_inline,
)
from services.decryptor.spool import Spool
from shared.certificates import OpenPGPKey
from shared.certificates.openpgp_subkeys import Subkey
from shared.mail.region import Region, region

#: Subkeys that are tried: a message to hidden recipients is tried with every key.
MAX_TRIES = 64
#: Operations with private keys that one message may ask for, each of the cost of one with RSA of
#: 4096 bits (some milliseconds): recipients that are hidden, or named twice, are tried one after
#: the other. Of a long message half, as each is done twice.
MAX_OPERATIONS = 96
_LONG_RSA = 4096
#: With more copies of the session key only those that may be meant here are given to Sequoia, which
#: takes the square of their number.
_MANY = 2_000
#: Octets of a message, and of its content, whose packets are looked at here, in memory.
MOST_READ = MAX_BYTES // 4
#: Packets around a content that was unpacked already: signatures, its file name.
_FRAME = 1 << 20
_NO_KEY = "No key to decrypt message"
_TOO_MANY = "The message has more recipients that may be meant here than are tried."
_RSA = (1, 2)
_size_limit = threading.Lock()
_LOWEST_FILE_LIMIT = 1 << 26


class OpenedMessage(NamedTuple):
    """A message that was read; `signature` is None where it carries none, `key` where nobody had
    encrypted it.

    `compressed`: there is one inside compression, which was not verified yet.
    """

    content: Region
    key: OpenPGPKey | None
    signature: PgpSignature | None
    compressed: bool = False


def decrypt_message(
    message: Region,
    to: Addressed,
    keys: tuple[OpenPGPKey, ...],
    rings: Rings,
    spool: Spool,
    limit: int,
) -> OpenedMessage:
    """Decrypts with the first subkey that fits, of the newest key first. `limit` bounds the
    unpacked content, in octets.

    Raises NoRecipient, Unsupported, Malformed (over the limit) or NotOpened.
    """
    if to.endless:
        raise Malformed("There are too many recipients.")
    named = frozenset(to.key_ids)
    fitting = [
        (key, subkey)
        for key in keys
        for subkey in key.subkeys
        if to.anyone or not named.isdisjoint(_names(subkey))
    ]
    if to.unsupported_keys:
        raise Unsupported(f"Encryption with {to.unsupported_keys} is not supported.")
    if not fitting:
        if to.password and not to.key_ids:
            raise Unsupported("The message is encrypted with a password, not for a key.")
        raise NoRecipient("None of the keys here is among the recipients.")
    if to.form.unsupported:
        raise Unsupported(to.form.unsupported)
    fitting.sort(key=lambda pair: named.isdisjoint(_names(pair[1])))
    if to.form.needs_reencryption and len(message) > MAX_BYTES:
        raise Unsupported("The message is too long for a form of GnuPG's own.")
    whole = whole_message(message) if len(message) <= MOST_READ else None
    most = MAX_OPERATIONS if whole is not None else MAX_OPERATIONS // 2
    copies = Counter(to.session_keys)
    operations = 0.0
    known = rings
    for key, subkey in fitting[:MAX_TRIES]:
        rings = known._replace(own=known.own | fingerprints_of(key))
        many = len(to.session_keys) > _MANY
        wanted = _copies_for(subkey, (ANYONE, *_names(subkey)))
        count = sum(copies[one] for one in wanted)
        if operations + count * _cost(subkey) > most:
            # Somebody who is named need not be kept out by those who are hidden.
            wanted, many = _copies_for(subkey, _names(subkey)), True
            count = sum(copies[one] for one in wanted)
            if not count or operations + count * _cost(subkey) > most:
                raise Unsupported(_TOO_MANY)
        if many and not count:
            continue
        if many and len(message) > MAX_BYTES:
            raise Unsupported(_TOO_MANY)
        operations += count * _cost(subkey)
        is_form_known = True
        try:
            packets: bytes | None = None
            if whole is not None:
                try:
                    packets = decrypted(whole, key, subkey, wanted).packets
                except Unsupported as error:
                    is_form_known = isinstance(error, OtherKey)
            if packets is not None:
                return _read(packets, key, rings, spool, limit)
            used = region(narrowed(message, wanted)) if many else message
            if to.form.needs_reencryption:
                return _by_reencryption(used, key, subkey, rings, spool, limit)
            try:
                where = _written(used.windows(), spool)
                opener = _Opener(subkey.decryptor)
                signed = whole is not None or not is_unsigned(used, key, subkey, wanted)
                opened = _decrypt(where, key, opener, rings, spool, limit, signed=signed)
            except NotOpened:
                return _opened_here(used, key, subkey, rings, spool, limit)
        except NotOpened:
            continue
        return _unread(len(used), opened, is_form_known=is_form_known)
    if to.form.uncommon:
        raise Unsupported(f"The encryption {to.form.algorithm} is not supported.")
    raise NotOpened


def _cost(subkey: Subkey) -> float:
    """Of one operation: with RSA it grows with the third power of the length."""
    return (subkey.bits / _LONG_RSA) ** 3 if subkey.algorithm in _RSA else 1.0


def _copies_for(subkey: Subkey, names: Iterable[str]) -> set[EncryptedSessionKey]:
    """The copies of the session key that may be for that subkey, under these names."""
    own = _RSA if subkey.algorithm in _RSA else (subkey.algorithm,)
    return {EncryptedSessionKey(name, one) for name in names for one in own}


class _Opener(NamedTuple):
    """What Sequoia opens a message with: a part of a key, or a password."""

    decryptor: PyDecryptor | None = None
    passwords: tuple[str, ...] = ()


def _read(
    packets: bytes, key: OpenPGPKey | None, rings: Rings, spool: Spool, limit: int
) -> OpenedMessage:
    """The message that holds these packets. `limit` bounds what is unpacked, in octets.

    Raises NotOpened, Malformed (over the limit) or Unsupported (many signatures, of which Sequoia
    takes the square).
    """
    if has_many_signatures(packets[:LOOK]):
        raise Unsupported(MANY_SIGNATURES)
    read = read_packets(packets, rings, limit)
    if read is not None:
        return OpenedMessage(region(read.content), key, read.signature)
    found = for_password(packets, limit)
    path = _written([found.message], spool)
    opened = _decrypt(path, key, _Opener(passwords=(found.password,)), rings, spool, limit)
    return _checked(packets, opened, rings)


def _opened_here(
    message: Region, key: OpenPGPKey, subkey: Subkey, rings: Rings, spool: Spool, limit: int
) -> OpenedMessage:
    """A message of an ordinary form that Sequoia's binding does not open: it does not know the
    curve, the cipher or the compression. Raises NotOpened where the message is at fault."""
    if len(message) > MAX_BYTES or not is_ordinary(message):
        raise NotOpened
    try:
        return _by_reencryption(message, key, subkey, rings, spool, limit)
    except OtherKey as error:
        raise NotOpened from error


def _by_reencryption(
    message: Region, key: OpenPGPKey, subkey: Subkey, rings: Rings, spool: Spool, limit: int
) -> OpenedMessage:
    found = reencrypted(whole_message(message), key, subkey, limit)
    path = _written([found.message], spool)
    opened = _decrypt(path, key, _Opener(passwords=(found.password,)), rings, spool, limit)
    return _unread(len(message), opened)


def read_plain(message: Region, rings: Rings, spool: Spool, limit: int) -> OpenedMessage:
    """What a message that nobody encrypted holds, and its signature. `limit` bounds the unpacked
    content, in octets.

    Raises Unsupported (too long, or many signatures), Malformed (over the limit) or NotOpened.
    """
    if len(message) > MAX_BYTES:
        raise Unsupported("The message is too long to be read.")
    packets = octets_of(message)
    if why_not_one_message(packets):
        raise NotOpened
    return _read(packets, None, rings, spool, limit)


def _checked(packets: bytes, opened: OpenedMessage, rings: Rings) -> OpenedMessage:
    """With what Sequoia's binding does not look at: a signature inside compression, or in front of
    the text; for whom one was made; and why one does not count.

    Decrypting, it expects the signature right inside the encryption; verifying, it does not.
    """
    if not _is_open(opened):
        return opened
    if len(opened.content) > MOST_READ:
        return _unread(len(packets), opened)
    limit = len(opened.content) + _FRAME
    if opened.signature is not None and opened.signature.signature == "valid":
        found = for_whom(packets, opened.signature, rings, limit)
    else:
        found = verify_inline(packets, rings, limit)
        if found.signature in ("valid", "mismatch") and found.content != opened.content.copy():
            found = PgpSignature("invalid", reason="The signature does not cover the content.")
    return opened._replace(signature=found)


def _unread(size: int, opened: OpenedMessage, *, is_form_known: bool = True) -> OpenedMessage:
    """What a signature is worth for whom nobody looked (`_checked`), in a message of `size` octets,
    as it is long, or for a key that only Sequoia knows. Anybody can choose another form."""
    if not _is_open(opened):
        return opened
    assert opened.signature is not None
    # Nobody can add to the text, but much that says nothing beside it.
    if not is_form_known or opened.compressed or size > 2 * len(opened.content) + _FRAME:
        return opened._replace(signature=PgpSignature("untrusted", reason=NOT_VERIFIED))
    if opened.signature.signature != "valid":
        return opened
    return opened._replace(signature=opened.signature._replace(reason=FOR_WHOM_UNREAD))


def _is_open(opened: OpenedMessage) -> bool:
    """Whether more can be said of the signature than Sequoia does."""
    found = opened.signature
    return found is not None and (opened.compressed or found.signature in ("valid", "invalid"))


def _written(windows: Iterable[memoryview | bytes], spool: Spool) -> Path:
    file, path = spool.named()
    with file:
        for window in windows:
            file.write(window)
    return path


def _names(subkey: Subkey) -> tuple[str, str]:
    """Recipients are named by key id (version 3) or by fingerprint (version 6)."""
    return subkey.key_id, subkey.fingerprint


def _decrypt(
    path: Path,
    key: OpenPGPKey | None,
    opener: _Opener,
    rings: Rings,
    spool: Spool,
    limit: int,
    *,
    signed: bool = True,
) -> OpenedMessage:
    """`signed`: whether the message may be. Then it is decrypted once more where it is not."""
    file, output = spool.named()
    file.close()
    compressed = False

    def check(ring: SenderKeys) -> PgpSignature | None:
        nonlocal compressed
        asked: list[str] = []

        def store(key_ids: list[str]) -> list[object]:
            asked.extend(key_ids)
            return list(ring.certificates)

        try:
            with _bounded(path, limit, output):
                result = decrypt_file(
                    str(path), str(output), opener.decryptor, store, opener.passwords
                )
        except RuntimeError as error:
            if str(error).startswith(_NO_KEY):
                raise NotOpened from error
            compressed = bool(asked) and "Unexpected message structure" in str(error)
            # Asked to verify, Sequoia refuses what carries no signature that it can verify:
            # unsigned messages too. Whether there was one is known from whether it asked for keys.
            return judge_failure(asked, ring) if asked else None
        return ring.made_by(one.certificate for one in result.valid_sigs)

    signature = with_hints(check, rings) if signed else None
    if signature is None or signature.signature != "valid":
        try:
            with _bounded(path, limit, output):
                decrypt_file(str(path), str(output), opener.decryptor, passwords=opener.passwords)
        except RuntimeError as error:
            raise _refused(error) from error
    return OpenedMessage(_mapped(output, spool), key, signature, compressed)


def _refused(error: RuntimeError) -> CmsError:
    """Sequoia opens no cipher that its policy calls broken, and names it behind its first line."""
    first, _, rest = str(error).partition("\n")
    named = re.search(r"^\s*(\S+) is not considered secure", rest, re.MULTILINE)
    if "Policy rejected" not in first or named is None:
        return NotOpened()
    return Unsupported(f"The encryption {named[1]} is not supported.")


def _mapped(path: Path, spool: Spool) -> Region:
    if path.stat().st_size <= spool.memory:
        return region(path.read_bytes())
    with path.open("rb") as file:
        return region(spool.keep(mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)))


@contextlib.contextmanager
def _bounded(path: Path, limit: int, output: Path) -> Iterator[None]:
    """Bounds what Sequoia does with the message at `path`, and the file that it writes: a kilobyte
    of compressed packets can fill a disk.

    The binding has no limit of its own. The one of the operating system counts for the whole
    process, so it is never lower than most files that other threads write meanwhile; a write of
    theirs that it stops fails as on a full disk, and its mail is tried again.
    """
    with _size_limit:
        soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
        most = max(limit, _LOWEST_FILE_LIMIT)
        if hard != resource.RLIM_INFINITY:
            most = min(most, hard)
        resource.setrlimit(resource.RLIMIT_FSIZE, (most, hard))
        try:
            with bounded_work(path.stat().st_size + limit):
                yield
        except OSError as error:
            # The binding raises it without its number.
            if error.errno == errno.EFBIG or f"(os error {errno.EFBIG})" in str(error):
                raise too_large(limit) from error
            if error.errno is None and "(os error" not in str(error):
                # What it says of a message within its buffer (25 MiB) by RuntimeError.
                raise RuntimeError(str(error)) from error
            raise
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    if output.stat().st_size > limit:
        raise too_large(limit)
