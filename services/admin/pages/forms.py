"""What a form sent: its fields, its files, and the proof that one of our pages sent it."""

from __future__ import annotations

import hmac
import re
import uuid
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Annotated, Any, Final

from fastapi import Depends, Request
from starlette.datastructures import UploadFile

from services.admin.auth import cookies
from services.admin.auth.authentication import SAFE_METHODS, session_of
from shared.errors import InvalidInput, PosthouseError

CSRF_FIELD: Final = "csrf"
_NUL: Final = "There is a NUL character in what was sent."
LARGEST_FORM: Final = 2 << 20  # octets; certificates and CA bundles fit many times
#: Of somebody who is not logged in: a name and a password. Many hold little at the same time.
LARGEST_LOGIN: Final = 16 << 10


#: As many digits as a bigint of Postgres always has room for; Python itself reads 4,300.
_WHOLE: Final = re.compile(r"[0-9]{1,18}")


def whole_number(typed: str) -> int | None:
    """The number that somebody typed or a link has; None where it is none, or beyond everything
    that is counted here."""
    return int(typed) if _WHOLE.fullmatch(typed) else None


def list_start(typed: str) -> uuid.UUID | None:
    """The id behind which a link goes on with a list; None where it names none: from the start."""
    try:
        return uuid.UUID(typed) if typed else None
    except ValueError:
        return None


def page_number(typed: str) -> int:
    """The page of a list that a link names; the first one where it names none."""
    return min(max(1, whole_number(typed) or 1), 1_000_000)


class FormForged(PosthouseError):
    """A form without its session's CSRF token: sent by another site, or from an older login."""

    code = "form-forged"


@dataclass(frozen=True, slots=True)
class PostedForm:
    """Fields by name, each a list as sent; empty for requests without a form."""

    fields: Mapping[str, list[str]] = field(default_factory=dict)
    files: Mapping[str, bytes] = field(default_factory=dict, repr=False)

    def text(self, name: str) -> str:
        """The last value, stripped; empty where the field is missing."""
        return self.raw(name).strip()

    def raw(self, name: str) -> str:
        """The last value as typed: for passwords."""
        values = self.fields.get(name)
        return values[-1] if values else ""

    def many(self, name: str) -> list[str]:
        return [value.strip() for value in self.fields.get(name, []) if value.strip()]

    def ids(self, name: str) -> list[int]:
        """Those of its values that are whole numbers."""
        numbers = (whole_number(value) for value in self.many(name))
        return [number for number in numbers if number is not None]

    def tags(self, name: str) -> list[str]:
        """What stands between commas."""
        return [one.strip() for one in self.text(name).split(",") if one.strip()]

    def flag(self, name: str) -> bool:
        """Whether a checkbox was ticked."""
        return bool(self.text(name))


class Values(dict[str, Any]):
    """What a form shows in its fields; a field that nobody filled is empty."""

    def __missing__(self, name: str) -> str:
        return ""


async def read_form(request: Request) -> PostedForm:
    """Reads the form and checks its CSRF token. Every page depends on it, so none can forget.

    Postgres knows no NUL in a text, so no page takes one, in its address or in a form."""
    if any("\0" in text for pair in request.query_params.multi_items() for text in pair):
        raise InvalidInput(_NUL)
    if request.method in SAFE_METHODS:
        return PostedForm()
    signed_in = session_of(request)
    length = whole_number(request.headers.get("content-length", ""))
    if length is None or length > (LARGEST_FORM if signed_in else LARGEST_LOGIN):
        raise InvalidInput("The form is larger than 2 MB, or than 16 kB before a login.")
    fields: dict[str, list[str]] = {}
    uploads: dict[str, bytes] = {}
    form = await request.form(max_files=8, max_fields=20_000)
    for name, value in form.multi_items():
        if isinstance(value, UploadFile):
            uploads[name] = await value.read()
        else:
            fields.setdefault(name, []).append(value.replace("\r\n", "\n"))
    if any("\0" in text for name, values in fields.items() for text in (name, *values)):
        raise InvalidInput(_NUL)
    expected = signed_in.csrf if signed_in else cookies.read(request, cookies.LOGIN)
    given = fields.get(CSRF_FIELD, [""])[-1]
    if not expected or not hmac.compare_digest(given.encode(), expected.encode()):
        raise FormForged(
            "This form was opened under another login.",
            hint="Open the page again and send the form once more.",
        )
    found = PostedForm(fields, uploads)
    request.state.opened_version = found.text("version")
    return found


Form = Annotated[PostedForm, Depends(read_form)]
