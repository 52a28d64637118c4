"""OAuth2 credentials: what Google and Microsoft know Posthouse by."""

from __future__ import annotations

from typing import Any, Final

from fastapi import APIRouter, Request
from starlette.responses import Response

from services.admin.auth.route_permissions import ADMINISTER, VIEW
from services.admin.operations import consents
from services.admin.operations import credentials as operations
from services.admin.pages.forms import Form, PostedForm, Values
from services.admin.pages.rendering import redirect, render
from services.admin.pages.request_context import context_of, editing_context_of
from shared.clock import utc_now
from shared.credentials import SETTINGS, Provider
from shared.errors import Conflict, InUse, InvalidInput, PosthouseError
from shared.kinds import recommended_for
from shared.microsoft_clouds import CLOUDS

router = APIRouter(prefix="/credentials")
_TEXTS: Final = ("name", "provider", "grant", "client_id", "tenant", "cloud", "secret_expires_at")
_SECRETS: Final = ("client_secret", "client_certificate")


@router.get("", dependencies=[VIEW])
def list_credentials(request: Request) -> Response:
    found = operations.search_credentials(context_of(request))
    return render(request, "credentials/list.html", found=found, now=utc_now())


@router.get("/new", dependencies=[ADMINISTER])
def new_credential(request: Request, provider: str = "microsoft") -> Response:
    values = Values(provider=provider, grant="authorization-code", cloud="global")
    return _form(request, values)


@router.post("/new", dependencies=[ADMINISTER])
def create(request: Request, form: Form) -> Response:
    try:
        view = operations.create_credential(context_of(request), _changes(form))
    except (InvalidInput, Conflict) as error:
        return _form(request, _typed(form), error=error)
    return redirect(
        f"/credentials/{view.credential.id}",
        f"{view.credential.name} is saved. Now choose it in a connection.",
    )


@router.get("/{credential_id:int}", dependencies=[VIEW])
def detail(request: Request, credential_id: int) -> Response:
    credential = operations.get_credential(context_of(request), credential_id).credential
    values = Values({n: getattr(credential, n) for n in (*_TEXTS, *(f"has_{s}" for s in _SECRETS))})
    expires = credential.secret_expires_at
    values["secret_expires_at"] = f"{expires:%Y-%m-%d}" if expires else ""
    values |= {f"setting_{name}": credential.setting(name) for name in SETTINGS}
    return _form(request, values, credential_id)


@router.post("/{credential_id:int}", dependencies=[ADMINISTER])
def change(request: Request, credential_id: int, form: Form) -> Response:
    try:
        operations.update_credential(
            editing_context_of(request, form), credential_id, _changes(form)
        )
    except (InvalidInput, Conflict) as error:
        return _form(request, _typed(form), credential_id, error)
    return redirect(f"/credentials/{credential_id}", "Your changes are saved.")


@router.post("/{credential_id:int}/delete", dependencies=[ADMINISTER])
def delete(request: Request, credential_id: int) -> Response:
    ctx = context_of(request)
    name = operations.get_credential(ctx, credential_id).credential.name
    try:
        operations.delete_credential(ctx, credential_id)
    except InUse as error:
        return redirect(f"/credentials/{credential_id}", f"{error} {error.hint}".strip(), "bad")
    return redirect("/credentials", f"{name} is deleted.")


def _form(
    request: Request,
    values: Values,
    credential_id: int | None = None,
    error: PosthouseError | None = None,
) -> Response:
    ctx = context_of(request)
    if isinstance(error, InvalidInput):
        error = error.renamed(lambda field: field.replace("settings.", "setting_"))
    view = operations.get_credential(ctx, credential_id) if credential_id is not None else None
    if view is not None:
        for name in _SECRETS:
            values[f"has_{name}"] = getattr(view.credential, f"has_{name}")
    google = values["provider"] == "google"
    provider = Provider.GOOGLE if google else Provider.MICROSOFT
    return render(
        request,
        "credentials/form.html",
        422 if error else 200,
        view=view,
        values=values,
        error=error,
        clouds=[(cloud.key, cloud.title) for cloud in CLOUDS],
        redirect_uri=operations.redirect_uri(ctx),
        redirect_problem=consents.redirect_problem(
            provider,
            operations.redirect_uri(ctx),
            bool(values["setting_authority"]),
        ),
        settings=SETTINGS,
        recommended=recommended_for(provider),
        now=utc_now(),
    )


def _changes(form: PostedForm) -> dict[str, Any]:
    google = form.text("provider") == "google"
    changes: dict[str, Any] = {name: form.text(name) for name in _TEXTS}
    if google:
        changes |= {"tenant": "", "cloud": "global"}
    for name in _SECRETS:
        if form.text(name):
            changes[name] = form.raw(name).strip()
    settings = {name: form.text(f"setting_{name}") for name in SETTINGS}
    changes["settings"] = {name: value for name, value in settings.items() if value}
    return changes


def _typed(form: PostedForm) -> Values:
    names = (*_TEXTS, *(f"setting_{name}" for name in SETTINGS))
    return Values({name: form.text(name) for name in names})
