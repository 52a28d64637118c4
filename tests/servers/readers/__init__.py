"""Readers of mail by others, which must see what a verdict calls `valid`.

    with ForeignReaders() as readers:
        for name, seen in readers.read(mail).items():
            seen.authors, seen.text

They are Python's `email` with its default policy, npm's `mailparser` and `postal-mime` (installed
by npm once a machine, by the integrity in `package-lock.json`), and GMime where Debian has it.
"""

from __future__ import annotations

import base64
import json
import re
import subprocess
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from email import message_from_bytes, policy
from email.message import EmailMessage
from hashlib import sha256
from pathlib import Path
from typing import Any

from tests.servers.npm import installed
from tests.servers.processes import end_with_parent

_HERE = Path(__file__).parent
_TEXTS = ("text/plain", "text/html")
_DEBIAN_PYTHON = "/usr/bin/python3"


@dataclass(frozen=True)
class Seen:
    """What one reader shows: the addresses of From and To in lower case, all text, all HTML."""

    authors: tuple[str, ...]
    text: str
    html: str = ""
    error: str = ""
    to: tuple[str, ...] = ()
    subject: str = ""
    date: datetime | None = None
    #: By Python's and the readers in Node, not by GMime.
    references: tuple[str, ...] = ()
    in_reply_to: tuple[str, ...] = ()
    #: (name, media type, SHA-256 in hexadecimal) of each attachment.
    files: tuple[tuple[str, str, str], ...] = ()

    @property
    def everything(self) -> str:
        return self.text + self.html


class ForeignReaders:
    """The readers as child processes that end with the test session."""

    def __init__(self) -> None:
        folder = installed(_HERE, [_HERE / "readers.mjs"])
        self._processes = [self._started("node", str(folder / "readers.mjs"))]
        self.has_gmime = (
            subprocess.run(
                [_DEBIAN_PYTHON, "-c", "import gi; gi.require_version('GMime', '3.0')"],
                check=False,
                capture_output=True,
            ).returncode
            == 0
        )
        if self.has_gmime:
            self._processes.append(self._started(_DEBIAN_PYTHON, str(_HERE / "gmime_reader.py")))

    @staticmethod
    def _started(*command: str) -> subprocess.Popen[bytes]:
        return subprocess.Popen(
            command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            preexec_fn=end_with_parent,
            # GLib writes a warning for every odd mail.
            stderr=subprocess.DEVNULL,
        )

    def __enter__(self) -> ForeignReaders:
        return self

    def __exit__(self, *error: object) -> None:
        for process in self._processes:
            process.kill()
            process.wait()

    def read(self, mail: bytes) -> Mapping[str, Seen]:
        """What each of them shows of a mail."""
        line = base64.b64encode(mail) + b"\n"
        for process in self._processes:
            assert process.stdin is not None
            process.stdin.write(line)
            process.stdin.flush()
        found = {"email": _python(mail)}
        for process in self._processes:
            assert process.stdout is not None
            for name, answer in json.loads(process.stdout.readline()).items():
                found[name] = _seen(answer)
        return found


def _seen(answer: Mapping[str, Any]) -> Seen:
    if "error" in answer:
        return Seen((), "", error=answer["error"])
    authors, to = (tuple(str(one).lower() for one in answer[name]) for name in ("authors", "to"))
    date = _instant(answer["date"] or "")
    subject = answer["subject"]
    return Seen(
        authors,
        answer["text"],
        answer["html"],
        to=to,
        subject=subject,
        date=date,
        references=tuple(answer.get("references", ())),
        in_reply_to=tuple(answer.get("in_reply_to", ())),
        files=tuple((name, kind, digest) for name, kind, digest in answer.get("files", ())),
    )


def _instant(said: str) -> datetime | None:
    """JavaScript knows years that Python does not."""
    try:
        return datetime.fromisoformat(said)
    except ValueError:
        return None


def _python(mail: bytes) -> Seen:
    try:
        message = message_from_bytes(mail, policy=policy.default)
        assert isinstance(message, EmailMessage)
        authors, to = (
            tuple(
                address.addr_spec.lower()
                for field in message.get_all(name, [])
                for address in field.addresses
            )
            for name in ("from", "to")
        )
        date = message["date"].datetime if message["date"] else None
        subject = str(message["subject"] or "")
        text, html = _texts(message, "plain"), _texts(message, "html")
        return Seen(
            authors,
            text,
            html,
            to=to,
            subject=subject,
            date=date,
            references=_ids(message["references"]),
            in_reply_to=_ids(message["in-reply-to"]),
            files=tuple(_file(part) for part in _leaves(message) if _is_file(part)),
        )
    except Exception as error:
        return Seen((), "", error=repr(error))


def _texts(message: EmailMessage, kind: str) -> str:
    return "\n".join(
        str(part.get_content())
        for part in _leaves(message)
        if part.get_content_type() == f"text/{kind}"
        and part.get_content_disposition() in (None, "inline")
    )


def _ids(value: object) -> tuple[str, ...]:
    return tuple(re.findall(r"<[^<>\s]+>", str(value or "")))


def _is_file(part: EmailMessage) -> bool:
    kind = part.get_content_type()
    if part.is_attachment() or part.get_filename():
        return True
    return kind not in _TEXTS and part.get_content_maintype() != "multipart"


def _file(part: EmailMessage) -> tuple[str, str, str]:
    if part.get_content_type() == "message/rfc822":
        content = part.get_payload(0).as_bytes()  # type: ignore[union-attr]
    else:
        content = part.get_payload(decode=True) or b""
    return part.get_filename() or "", part.get_content_type(), sha256(content).hexdigest()


def _leaves(part: EmailMessage) -> Iterator[EmailMessage]:
    """The parts that are no multiparts, without those of a message that is attached."""
    if part.is_multipart() and part.get_content_maintype() == "multipart":
        for one in part.iter_parts():
            assert isinstance(one, EmailMessage)
            yield from _leaves(one)
    else:
        yield part


def words(text: str) -> str:
    """A text whatever its white space: readers join flowed lines (RFC 3676) or leave them."""
    return re.sub(r"\s+", "", text)
