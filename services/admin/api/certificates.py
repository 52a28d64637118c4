"""`/api/v1/certificates`, `/api/v1/trust-anchors` and `/api/v1/sender-keys`."""

from __future__ import annotations

import dataclasses
from typing import Annotated

from fastapi import APIRouter, File, Form, UploadFile

from services.admin.api.route_parameters import Ctx, IdInPath, PageNumber, PerPage, SearchText
from services.admin.api.schemas.certificates import (
    CertificateOut,
    RenameChanges,
    SenderKeyOut,
    TrustAnchorOut,
)
from services.admin.api.schemas.common import PageOut
from services.admin.auth.route_permissions import ADMINISTER, VIEW
from services.admin.operations import certificates
from services.admin.operations import sender_keys as known
from services.admin.operations.certificates import CertificateView
from services.admin.problems import UserOut, responses
from shared.certificates.senders import text_of

router = APIRouter(prefix="/certificates", tags=["certificates"])
anchors = APIRouter(prefix="/trust-anchors", tags=["certificates"])
senders = APIRouter(prefix="/sender-keys", tags=["certificates"])

Upload = Annotated[
    UploadFile, File(description="PKCS #12 (.p12, .pfx), PEM with key, or an OpenPGP secret key")
]
Password = Annotated[str, Form(max_length=4096, description="Of the file; not kept")]
Label = Annotated[str, Form(max_length=200)]


@router.get("", dependencies=[VIEW], responses=responses())
def search(
    ctx: Ctx, q: SearchText = "", page: PageNumber = 1, per_page: PerPage = 50
) -> PageOut[CertificateOut]:
    """By a part of name, alias, subject, address or fingerprint."""
    found = certificates.search_certificates(ctx, q=q, page=page, per_page=per_page)
    items = [_to_out(view, full=False) for view in found.items]
    return PageOut(items=items, total=found.total, page=page, per_page=per_page)


@router.post("", dependencies=[ADMINISTER], status_code=201, responses=responses(409, 413))
def upload(
    ctx: Ctx, file: Upload, password: Password = "", name: Label = "", alias: Label = ""
) -> CertificateOut:
    """Adds the certificate and private key of a file. The name is its mail address where none is
    given, the alias its friendly name."""
    data = file.file.read()
    return _to_out(
        certificates.upload_certificate(
            ctx, data, password=password or None, name=name, alias=alias
        )
    )


@router.get("/{certificate_id}", dependencies=[VIEW], responses=responses(404))
def get(ctx: Ctx, certificate_id: IdInPath) -> CertificateOut:
    """One certificate and the connections that use it."""
    return _to_out(certificates.get_certificate(ctx, certificate_id))


@router.patch("/{certificate_id}", dependencies=[ADMINISTER], responses=responses(404, 409))
def rename(ctx: Ctx, certificate_id: IdInPath, body: RenameChanges) -> CertificateOut:
    """Changes name and alias."""
    return _to_out(certificates.rename_certificate(ctx, certificate_id, body))


@router.put("/{certificate_id}/file", dependencies=[ADMINISTER], responses=responses(404, 413))
def replace(
    ctx: Ctx, certificate_id: IdInPath, file: Upload, password: Password = ""
) -> CertificateOut:
    """Puts a new file in the place of the old one; name, alias and connections stay."""
    data = file.file.read()
    return _to_out(
        certificates.replace_certificate(ctx, certificate_id, data, password=password or None)
    )


@router.delete(
    "/{certificate_id}", dependencies=[ADMINISTER], status_code=204, responses=responses(404, 409)
)
def delete(ctx: Ctx, certificate_id: IdInPath) -> None:
    """`409` with `used_by` while connections use it."""
    certificates.delete_certificate(ctx, certificate_id)


@anchors.get("", dependencies=[ADMINISTER], responses=responses())
def list_anchors(ctx: Ctx) -> list[TrustAnchorOut]:
    """The trust anchors that signers are checked against, besides the system's."""
    return [
        TrustAnchorOut(
            **(dataclasses.asdict(one) | {"certificate": text_of("smime", one.certificate)})
        )
        for one in certificates.list_trust_anchors(ctx)
    ]


@anchors.post("", dependencies=[ADMINISTER], status_code=201, responses=responses(409, 413))
def add_anchors(
    ctx: Ctx,
    file: Annotated[UploadFile, File(description="PEM certificates, or one in DER")],
    name: Label = "",
) -> list[TrustAnchorOut]:
    """Adds every certificate of a file as a trust anchor."""
    new = set(certificates.add_trust_anchors(ctx, file.file.read(), name=name))
    return [anchor for anchor in list_anchors(ctx) if anchor.id in new]


@anchors.delete(
    "/{anchor_id}", dependencies=[ADMINISTER], status_code=204, responses=responses(404)
)
def delete_anchor(ctx: Ctx, anchor_id: IdInPath) -> None:
    """Signatures are no longer trusted from this certificate."""
    certificates.delete_trust_anchor(ctx, anchor_id)


@senders.get("", dependencies=[ADMINISTER], responses=responses())
def list_senders(ctx: Ctx) -> list[SenderKeyOut]:
    """The senders whose signatures count without a trust anchor."""
    return [
        SenderKeyOut(
            **(dataclasses.asdict(one) | {"certificate": text_of(one.kind, one.certificate)})
        )
        for one in known.list_sender_keys(ctx)
    ]


@senders.post("", dependencies=[ADMINISTER], status_code=201, responses=responses(409, 413))
def add_senders(
    ctx: Ctx,
    file: Annotated[
        UploadFile,
        File(description="OpenPGP public keys, PEM certificates, or one certificate in DER"),
    ],
    name: Label = "",
) -> list[SenderKeyOut]:
    """Adds every sender's key or certificate of a file. The name is its address where none is
    given."""
    new = set(known.add_sender_keys(ctx, file.file.read(), name=name))
    return [sender for sender in list_senders(ctx) if sender.id in new]


@senders.delete(
    "/{sender_id}", dependencies=[ADMINISTER], status_code=204, responses=responses(404)
)
def delete_sender(ctx: Ctx, sender_id: IdInPath) -> None:
    """Signatures of this sender need a trust anchor again, or count no longer."""
    known.delete_sender_key(ctx, sender_id)


def _to_out(view: CertificateView, *, full: bool = True) -> CertificateOut:
    users = [UserOut.model_validate(user) for user in view.used_by] if full else None
    return CertificateOut(
        **dataclasses.asdict(view.certificate),
        label=view.certificate.label,
        uses=view.uses,
        used_by=users,
    )
