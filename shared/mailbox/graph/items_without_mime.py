"""A mail for an item that has no MIME form: built from its properties, so that nothing is lost.

Exchange keeps no MIME; for some items (broken conversions, notes, meeting items of other clients)
it gives none. Their header fields, body and attachments are put into a MIME message here. Such a
mail carries `X-Posthouse-Rebuilt` with the reason: it is not what travelled, and no
signature in it can be verified. Only an S/MIME mail lies in Exchange as it travelled.
"""

from __future__ import annotations

import base64
import itertools
import tempfile
from collections.abc import Iterator, Mapping
from datetime import datetime
from email.header import Header
from email.utils import format_datetime, formataddr
from typing import IO, Any, Final
from uuid import uuid4

from shared.mailbox.base import MailRef
from shared.mailbox.errors.diagnoses import shortened
from shared.mailbox.graph.folders import pages
from shared.mailbox.graph.http import GraphError, GraphHttp

_SELECT: Final = ",".join(
    (
        "id",
        "subject",
        "from",
        "sender",
        "toRecipients",
        "ccRecipients",
        "replyTo",
        "receivedDateTime",
        "sentDateTime",
        "internetMessageId",
        "internetMessageHeaders",
        "hasAttachments",
        "body",
    )
)
#: Fields that describe the lost MIME structure; ours takes their place.
_STRUCTURE: Final = ("content-", "mime-version", "x-posthouse-")
_IN_MEMORY: Final = 1 << 20
_BASE64_CHUNK: Final = 57 * 1024  # octets that make whole lines


#: The media types of S/MIME, and those that its one attachment has where its own was lost.
_PKCS7: Final = ("application/pkcs7-mime", "application/x-pkcs7-mime")
#: What the header of an entity begins with, and a CMS structure does not.
_OF_ENTITY: Final = (b"content-", b"mime-version:")
#: What is asked for of attachments before they are read.
OF_ATTACHMENT: Final = {"$select": "id,name,contentType,size"}


def of_smime(graph: GraphHttp, ref: MailRef, failure: GraphError) -> IO[bytes] | None:
    """The S/MIME mail that an item with one attachment is; None for any other item.

    Exchange stores an S/MIME mail as a message whose only attachment is what was signed or
    encrypted, as it came ([MS-OXOSMIME] 2.1.3): a CMS structure, or a whole multipart/signed with
    its header. Its octets are those that travelled, so it opens and verifies.
    """
    path = graph.message(ref)
    try:
        answer = graph.get(f"{path}/attachments", OF_ATTACHMENT, unless=lambda failure: True)
        rows = answer.get("value") or []
        if len(rows) != 1 or "@odata.nextLink" in answer or not is_smime(rows[0]):
            return None
        item = graph.get(path, {"$select": _SELECT})
    except GraphError:
        return None
    spool: IO[bytes] = tempfile.SpooledTemporaryFile(_IN_MEMORY)  # noqa: SIM115 (handed on)
    try:
        for name, value in _fields(item, failure):
            spool.write(f"{name}: {value}\r\n".encode("utf-8", "replace"))
        with graph.stream(f"{path}/attachments/{rows[0]['id']}/$value") as chunks:
            _write_smime(spool, str(rows[0].get("contentType") or ""), chunks)
        spool.seek(0)
    except BaseException:
        spool.close()
        raise
    return spool


def is_smime(row: Mapping[str, Any]) -> bool:
    """Whether the only attachment of an item is what an S/MIME mail consists of."""
    media = str(row.get("contentType") or "").partition(";")[0].strip().lower()
    name = str(row.get("name") or "").strip().lower()
    return "fileAttachment" in str(row.get("@odata.type") or "fileAttachment") and (
        media in (*_PKCS7, "multipart/signed") or name == "smime.p7m"
    )


def _write_smime(spool: IO[bytes], media: str, chunks: Iterator[bytes]) -> None:
    """The attachment as the body of the mail: behind its own header where it has one."""
    begun = next(chunks, b"")
    own = begun.partition(b"\r\n\r\n")[0].lower()
    if b"mime-version:" not in own:
        spool.write(b"MIME-Version: 1.0\r\n")
    if media.lower().startswith("multipart/signed") or own.startswith(_OF_ENTITY):
        spool.write(begun)
        for chunk in chunks:
            spool.write(chunk)
        return
    if media.partition(";")[0].strip().lower() not in _PKCS7 or not media.isascii():
        media = 'application/pkcs7-mime; name="smime.p7m"'
    spool.write(
        f"Content-Type: {' '.join(media.split())}\r\n"
        'Content-Disposition: attachment; filename="smime.p7m"\r\n'
        "Content-Transfer-Encoding: base64\r\n\r\n".encode()
    )
    _write_base64(spool, itertools.chain([begun], chunks))


def rebuild(graph: GraphHttp, ref: MailRef, failure: GraphError) -> IO[bytes]:
    """The mail in a spool, at its start. Raises GraphError where not even properties are given."""
    path = graph.message(ref)
    item = graph.get(path, {"$select": _SELECT})
    spool: IO[bytes] = tempfile.SpooledTemporaryFile(_IN_MEMORY)  # noqa: SIM115 (handed on)
    try:
        boundary = f"posthouse-{uuid4().hex}"
        for name, value in _fields(item, failure):
            spool.write(f"{name}: {value}\r\n".encode("utf-8", "replace"))
        spool.write(
            f'MIME-Version: 1.0\r\nContent-Type: multipart/mixed; boundary="{boundary}"\r\n\r\n'
            f"--{boundary}\r\n".encode()
        )
        _write_body(spool, item.get("body") or {})
        rows = pages(graph, f"{path}/attachments", {"$select": "id,name,contentType,size"})
        for row in rows:
            spool.write(f"--{boundary}\r\n".encode())
            _write_attachment(graph, spool, path, row)
        spool.write(f"--{boundary}--\r\n".encode())
        spool.seek(0)
    except BaseException:
        spool.close()
        raise
    return spool


def _fields(item: Mapping[str, Any], failure: GraphError) -> Iterator[tuple[str, str]]:
    given = [
        (str(field.get("name") or ""), " ".join(str(field.get("value") or "").split()))
        for field in item.get("internetMessageHeaders") or []
    ]
    kept = [
        (name, value)
        for name, value in given
        if name and name.isascii() and not name.lower().startswith(_STRUCTURE)
    ]
    yield from ((name, _encoded(value)) for name, value in kept)
    present = {name.lower() for name, _ in kept}
    own = {
        "From": _addresses([item.get("from") or item.get("sender") or {}]),
        "To": _addresses(item.get("toRecipients") or []),
        "Cc": _addresses(item.get("ccRecipients") or []),
        "Reply-To": _addresses(item.get("replyTo") or []),
        "Subject": _encoded(str(item.get("subject") or "")),
        "Date": _date(item.get("sentDateTime") or item.get("receivedDateTime")),
        "Message-ID": " ".join(str(item.get("internetMessageId") or "").split()),
    }
    yield from (
        (name, value) for name, value in own.items() if value and name.lower() not in present
    )
    kind = str(item.get("@odata.type") or "").removeprefix("#microsoft.graph.")
    reason = shortened(f"{failure.code or failure.status} {failure.words}")
    yield "X-Posthouse-Rebuilt", _encoded(f"from Graph properties; {kind or 'message'}; {reason}")


def _write_body(spool: IO[bytes], body: Mapping[str, Any]) -> None:
    kind = "html" if str(body.get("contentType") or "").lower() == "html" else "plain"
    text = str(body.get("content") or "").encode("utf-8", "replace")
    spool.write(
        f"Content-Type: text/{kind}; charset=utf-8\r\n"
        "Content-Transfer-Encoding: base64\r\n\r\n".encode()
    )
    _write_base64(spool, iter([text]))


def _write_attachment(
    graph: GraphHttp, spool: IO[bytes], path: str, row: Mapping[str, Any]
) -> None:
    kind = str(row.get("@odata.type") or "")
    name = str(row.get("name") or "attachment").replace('"', "'")
    media = str(row.get("contentType") or "application/octet-stream")
    if "itemAttachment" in kind:
        media = "message/rfc822"
    if not all(part.isascii() and part.isprintable() for part in media) or "/" not in media:
        media = "application/octet-stream"
    encoding = "8bit" if media == "message/rfc822" else "base64"  # RFC 2046 section 5.2.1
    spool.write(
        f"Content-Type: {media}\r\n"
        f"Content-Disposition: attachment; filename*=utf-8''{_percent(name)}\r\n"
        f"Content-Transfer-Encoding: {encoding}\r\n\r\n".encode()
    )
    try:
        with graph.stream(f"{path}/attachments/{row['id']}/$value") as chunks:
            if encoding == "base64":
                _write_base64(spool, chunks)
            else:
                for chunk in chunks:
                    spool.write(chunk)
                spool.write(b"\r\n")
    except GraphError as failure:
        # A reference to a file elsewhere has no content of its own. Any other one that is missing
        # here would be lost with the original.
        if "referenceAttachment" not in kind or not failure.is_about_one_request:
            raise
        graph.transcript.note(f"attachment {name!r} has no content: {failure.code}")
        spool.write(b"\r\n")


def _write_base64(spool: IO[bytes], chunks: Iterator[bytes]) -> None:
    waiting = b""
    for chunk in chunks:
        waiting += chunk
        whole = len(waiting) // _BASE64_CHUNK * _BASE64_CHUNK
        spool.write(base64.encodebytes(waiting[:whole]).replace(b"\n", b"\r\n"))
        waiting = waiting[whole:]
    spool.write(base64.encodebytes(waiting).replace(b"\n", b"\r\n") or b"\r\n")


def _addresses(recipients: list[Mapping[str, Any]]) -> str:
    found = []
    for recipient in recipients:
        address = recipient.get("emailAddress") or {}
        name, where = str(address.get("name") or ""), str(address.get("address") or "")
        plain = " ".join(where.split())
        if plain:
            pair = ("" if name == where else " ".join(name.split()), plain)
            found.append(formataddr(pair) if plain.isascii() else plain)
    return ", ".join(found)


def _encoded(text: str) -> str:
    line = " ".join(text.split())
    return line if line.isascii() else Header(line, "utf-8", maxlinelen=10**6).encode()


def _date(text: object) -> str:
    try:
        return format_datetime(datetime.fromisoformat(str(text)))
    except ValueError:
        return ""


def _percent(name: str) -> str:
    from urllib.parse import quote

    return quote(name, safe="")
