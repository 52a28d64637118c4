"""Certificates: the list, uploading, replacing, and who uses each."""

from __future__ import annotations

from urllib.parse import urlencode

from fastapi import APIRouter, Request
from starlette.responses import Response

from services.admin.auth.route_permissions import ADMINISTER, VIEW
from services.admin.operations import certificates as operations
from services.admin.operations.overview import SOON
from services.admin.pages.forms import Form, PostedForm, Values, page_number
from services.admin.pages.rendering import redirect, render
from services.admin.pages.request_context import context_of, is_part
from shared.clock import utc_now
from shared.errors import InUse, InvalidInput, NameTaken, PosthouseError

router = APIRouter(prefix="/certificates")
_PICKED = 20


@router.get("", dependencies=[VIEW])
def list_certificates(request: Request, q: str = "", page: str = "1") -> Response:
    number = page_number(page)
    found = operations.search_certificates(context_of(request), q=q, page=number)

    def link(number: int) -> str:
        return "/certificates?" + urlencode({"q": q, "page": number})

    template = "certificates/_list.html" if is_part(request) else "certificates/list.html"
    return render(request, template, found=found, q=q, link=link, now=utc_now(), soon=SOON)


@router.get("/pick", dependencies=[VIEW])
def pick(request: Request, q: str = "") -> Response:
    """The options of the picker in the connection's form."""
    found = operations.search_certificates(context_of(request), q=q, per_page=_PICKED)
    return render(request, "certificates/_pick.html", found=found)


@router.get("/new", dependencies=[ADMINISTER])
def new_certificate(request: Request) -> Response:
    return render(request, "certificates/upload.html", values=Values(), error=None)


@router.post("/new", dependencies=[ADMINISTER])
def upload(request: Request, form: Form) -> Response:
    try:
        view = operations.upload_certificate(
            context_of(request),
            _file(form),
            password=form.raw("password") or None,
            name=form.text("name"),
            alias=form.text("alias"),
        )
    except (InvalidInput, NameTaken) as error:
        values = Values(name=form.text("name"), alias=form.text("alias"))
        return render(request, "certificates/upload.html", 422, values=values, error=error)
    certificate = view.certificate
    return redirect(
        f"/certificates/{certificate.id}",
        f"{certificate.name} is uploaded. Attach it to the connections whose mails it opens.",
    )


@router.get("/{certificate_id:int}", dependencies=[VIEW])
def detail(request: Request, certificate_id: int) -> Response:
    return _detail(request, certificate_id)


@router.post("/{certificate_id:int}", dependencies=[ADMINISTER])
def rename(request: Request, certificate_id: int, form: Form) -> Response:
    changes = {"name": form.text("name"), "alias": form.text("alias")}
    try:
        operations.rename_certificate(context_of(request), certificate_id, changes)
    except (InvalidInput, NameTaken) as error:
        return _detail(request, certificate_id, error)
    return redirect(f"/certificates/{certificate_id}", "Your changes are saved.")


@router.post("/{certificate_id:int}/replace", dependencies=[ADMINISTER])
def replace(request: Request, certificate_id: int, form: Form) -> Response:
    try:
        operations.replace_certificate(
            context_of(request), certificate_id, _file(form), password=form.raw("password") or None
        )
    except (InvalidInput, NameTaken) as error:
        return _detail(request, certificate_id, error)
    return redirect(
        f"/certificates/{certificate_id}",
        "The new certificate is in place. Mails for the old key can no longer be opened.",
        "warn",
    )


@router.post("/{certificate_id:int}/delete", dependencies=[ADMINISTER])
def delete(request: Request, certificate_id: int) -> Response:
    ctx = context_of(request)
    name = operations.get_certificate(ctx, certificate_id).certificate.name
    try:
        operations.delete_certificate(ctx, certificate_id)
    except InUse as error:
        return _detail(request, certificate_id, error)
    return redirect("/certificates", f"{name} is deleted, and its private key with it.")


def _detail(request: Request, certificate_id: int, error: PosthouseError | None = None) -> Response:
    view = operations.get_certificate(context_of(request), certificate_id)
    return render(
        request,
        "certificates/detail.html",
        422 if error else 200,
        view=view,
        error=error,
        now=utc_now(),
        soon=SOON,
    )


def _file(form: PostedForm) -> bytes:
    data = form.files.get("file", b"")
    if not data:
        raise InvalidInput("Choose the certificate's file.", field="file")
    return data
