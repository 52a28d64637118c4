"""Mails that make a signature seem to say what it does not, kind by kind.

The kinds are those of Müller, Brinkmann, Poddebniak, Böck, Schinzel, Somorovsky, Schwenk:
"Johnny, you are fired!" (USENIX Security 2019): attacks on CMS, on the GPG interface, on MIME, on
identities, on what is shown; and our own. The mails are made here. In each, mallory's certificate
and key are as good as the boss's; EVIL is what the boss did not sign.
"""

from __future__ import annotations

import base64
from collections.abc import Callable

from asn1crypto import cms
from pysequoia import SignatureMode

from tests.rig.forged_mails import BOSS, EVIL, MALLORY, Forger

_HEADER = b"From: The Boss <boss@corp.example>\r\n"
_REST = (
    b"To: tickets@corp.example\r\nSubject: Invoice 4711\r\n"
    b"Date: Sat, 28 Nov 2026 10:00:00 +0000\r\nMIME-Version: 1.0\r\n"
)
_TEXT = b"Content-Type: text/plain; charset=utf-8\r\n\r\nPlease pay invoice 4711.\r\n"
_EVIL = b"Content-Type: text/plain; charset=utf-8\r\n\r\n" + EVIL + b"\r\n"
#: What a forged mail may be called.
_NEVER_VALID = ("mismatch", "partial", "ambiguous", "untrusted", "invalid", "none")

_Made = Callable[[Forger], bytes]


class _Author:
    """Another author than mallory, who signs, in every place where one can stand."""

    def __init__(self, author: bytes) -> None:
        self._header = author + _REST

    def __call__(self, forger: Forger) -> bytes:
        return self._header + forger.multipart(MALLORY, _TEXT)

    def opaque(self, forger: Forger) -> bytes:
        """The same above an opaque signature."""
        return self._header + forger.opaque(MALLORY, _TEXT)

    def encrypted(self, forger: Forger) -> bytes:
        """The same above a signature inside an encryption."""
        return self._header + forger.encrypted(_TEXT, MALLORY)


def _author(author: bytes) -> _Author:
    return _Author(author)


def _pair(first: bytes, second: bytes, parameters: bytes = b"boundary=BB") -> bytes:
    return (
        b"Content-Type: multipart/signed; " + parameters + b"\r\n\r\n--BB\r\n" + first
        + b"\r\n--BB\r\n" + second + b"\r\n--BB--\r\n"
    )  # fmt: skip


def _mixed(*parts: bytes, kind: bytes = b"mixed") -> bytes:
    return (
        b"Content-Type: multipart/" + kind + b"; boundary=M\r\n\r\n"
        + b"".join(b"--M\r\n" + one + b"\r\n" for one in parts) + b"--M--\r\n"
    )  # fmt: skip


def _framed(before: bytes = b"", behind: bytes = b"", parameters: bytes = b"boundary=BB") -> _Made:
    """The boss's own multipart/signed with something around its parts."""
    return lambda forger: (
        _HEADER + _REST + b"Content-Type: multipart/signed; " + parameters + b"\r\n\r\n" + before
        + b"--BB\r\n" + _TEXT + b"\r\n--BB\r\n" + forger.signature_part(BOSS, _TEXT)
        + (behind or b"\r\n--BB--\r\n")
    )  # fmt: skip


def _whole(body: Callable[[Forger], bytes], header: bytes = _HEADER) -> _Made:
    return lambda forger: header + _REST + body(forger)


def _clear(forger: Forger, text: bytes = b"Please pay invoice 4711.\r\n") -> bytes:
    return forger.openpgp(BOSS, text, SignatureMode.CLEAR).replace(b"\n", b"\r\n")


def _text(body: Callable[[Forger], bytes], kind: bytes = b"text/plain") -> _Made:
    return lambda forger: _HEADER + _REST + b"Content-Type: " + kind + b"\r\n\r\n" + body(forger)


def _detached_with_content(forger: Forger) -> bytes:
    """CMS: an opaque signature over one content beside another."""
    signature = (
        b"Content-Type: application/pkcs7-signature; name=smime.p7s\r\n"
        b"Content-Transfer-Encoding: base64\r\n\r\n"
        + base64.encodebytes(forger.smime(BOSS, _TEXT, opaque=True))
    )
    return _pair(_EVIL, signature)


def _opaque_of_detached(forger: Forger) -> bytes:
    """CMS: a signature without its content where an opaque one is announced."""
    return (
        b"Content-Type: application/pkcs7-mime; smime-type=signed-data; name=smime.p7m\r\n"
        b"Content-Transfer-Encoding: base64\r\n\r\n" + base64.encodebytes(forger.smime(BOSS, _TEXT))
    )


def _replayed(forger: Forger) -> bytes:
    """CMS: the boss's signature beside another text."""
    return _pair(_EVIL, forger.signature_part(BOSS, _TEXT))


def _certificates_only(forger: Forger) -> bytes:
    """CMS: no signer at all, which a careless check finds no fault with."""
    from cryptography.hazmat.primitives import serialization
    from cryptography.hazmat.primitives.serialization import pkcs7

    made = pkcs7.serialize_certificates(
        [forger.signers[BOSS].certificate], serialization.Encoding.DER
    )
    return _pair(
        _EVIL,
        b"Content-Type: application/pkcs7-signature\r\nContent-Transfer-Encoding: base64\r\n\r\n"
        + base64.encodebytes(made),
    )


def _two_blocks(forger: Forger) -> bytes:
    """GPG: two signed texts in one, of which one is another's."""
    other = forger.openpgp(MALLORY, EVIL + b"\r\n", SignatureMode.CLEAR)
    return _clear(forger) + b"\r\n" + other.replace(b"\n", b"\r\n")


def _shown_signature(kind: bytes) -> _Made:
    """The boss's signature in a part of another kind, with something behind it."""
    return lambda forger: (
        _HEADER + _REST
        + _pair(
            _TEXT,
            b"Content-Type: " + kind + b"; boundary=X\r\nContent-Transfer-Encoding: binary\r\n"
            b"Content-Disposition: inline; filename=smime.p7s\r\n\r\n"
            + forger.smime(BOSS, _TEXT) + b"\r\n--X\r\n" + _EVIL + b"\r\n--X--\r\n",
        )
    )  # fmt: skip


def _attributes_as_content(forger: Forger) -> bytes:
    """CMS: what the boss's key signed are the attributes; here they are the content."""
    made = cms.ContentInfo.load(forger.smime(BOSS, _TEXT, opaque=True))
    signer = made["content"]["signer_infos"][0]
    attributes = b"\x31" + signer["signed_attrs"].dump()[1:]
    signer["signed_attrs"] = None
    held = made["content"]["encap_content_info"]
    held["content"] = type(held["content"])(attributes)
    return (
        b"Content-Type: application/pkcs7-mime; smime-type=signed-data; name=smime.p7m\r\n"
        b"Content-Transfer-Encoding: base64\r\n\r\n" + base64.encodebytes(made.dump(force=True))
    )


_MIME: dict[str, _Made] = {
    "mime: the signature in a multipart": _shown_signature(b"multipart/mixed"),
    "mime: the signature in an alternative": _shown_signature(b"multipart/alternative"),
    "mime: the signature in a message": _shown_signature(b"message/rfc822"),
    "mime: the signature in a report": _shown_signature(b"message/delivery-status"),
    "mime: the signed part is the second": _whole(
        lambda forger: _mixed(_EVIL, forger.multipart(BOSS, _TEXT))
    ),
    "mime: the signed part is the first": _whole(
        lambda forger: _mixed(forger.multipart(BOSS, _TEXT), _EVIL)
    ),
    "mime: the signed part is an attachment": _whole(
        lambda forger: _mixed(_EVIL, b"Content-Type: message/rfc822\r\n\r\n" + _HEADER
                              + forger.multipart(BOSS, _TEXT))
    ),
    "mime: related, the signed part hidden": _whole(
        lambda forger: _mixed(_EVIL, forger.multipart(BOSS, _TEXT), kind=b"related")
    ),
    "mime: alternative, the signed part hidden": _whole(
        lambda forger: _mixed(_EVIL, forger.multipart(BOSS, _TEXT), kind=b"alternative")
    ),
    "mime: an opaque signature beside a text": _whole(
        lambda forger: _mixed(_EVIL, forger.opaque(BOSS, _TEXT))
    ),
    "mime: html that hides what follows": _whole(
        lambda forger: _mixed(
            b"Content-Type: text/html\r\n\r\n" + EVIL + b"<plaintext style=display:none>",
            forger.multipart(BOSS, _TEXT),
        )
    ),
    "mime: a third part": _framed(behind=b"\r\n--BB\r\n" + _EVIL + b"--BB--\r\n"),
    "mime: text in the preamble": _framed(EVIL + b"\r\n"),
    "mime: text in the epilogue": _framed(behind=b"\r\n--BB--\r\n" + EVIL + b"\r\n"),
    "mime: a part in the epilogue": _framed(
        behind=b"\r\n--BB--\r\n--BB\r\n" + _EVIL + b"--BB--\r\n"
    ),
    "mime: a part behind a bare CR": _framed(b"x\r--BB\r\n" + _EVIL),
    "mime: a part behind two bare CR": _framed(b"\r\r--BB\r\r" + _EVIL),
    "mime: a part behind a closing delimiter with a tail": _framed(
        behind=b"\r\n--BB--tail\r\n--BB\r\n" + _EVIL + b"\r\n--BB--\r\n"
    ),
    "mime: a delimiter with a tail": _framed(b"--BBtail\r\n" + _EVIL),
    "mime: a closing delimiter first": _framed(b"--BB--\r\n" + _EVIL),
    "mime: another boundary before": _framed(
        b"--CC\r\n" + _EVIL + b"--CC--\r\n", parameters=b"boundary=CC; boundary=BB"
    ),
    "mime: another boundary behind": _framed(
        b"--CC\r\n" + _EVIL + b"--CC--\r\n", parameters=b"boundary=BB; boundary=CC"
    ),
    "mime: an extended boundary": _framed(
        b"--CC\r\n" + _EVIL + b"--CC--\r\n", parameters=b"boundary=BB; boundary*=us-ascii''CC"
    ),
    "mime: a boundary in sections": _framed(
        b"--CC\r\n" + _EVIL + b"--CC--\r\n", parameters=b"boundary*0=B; boundary*1=B; boundary=CC"
    ),
    "mime: a boundary with a bare CR": _framed(
        b"--CC\r\n" + _EVIL + b"--CC--\r\n", parameters=b"boundary=BB\r;boundary=CC"
    ),
    "mime: a second type": _framed(
        b"--CC\r\n" + _EVIL + b"--CC--\r\n",
        parameters=b"boundary=BB\r\nContent-Type: multipart/mixed; boundary=CC",
    ),
    "mime: a second type behind a bare CR": _framed(
        b"--CC\r\n" + _EVIL + b"--CC--\r\n",
        parameters=b"boundary=BB\r\nX: y\rContent-Type: multipart/mixed; boundary=CC",
    ),
    "mime: a type before a bare CR": _framed(
        b"--CC\r\n" + _EVIL + b"--CC--\r\n",
        parameters=b"boundary=BB\r\nX: y\r\rContent-Type: multipart/mixed; boundary=CC",
    ),
    "mime: an encoding around it": _framed(
        parameters=b"boundary=BB\r\nContent-Transfer-Encoding: quoted-printable"
    ),
    "mime: the signature shows as a text": _whole(
        lambda forger: _pair(
            _TEXT,
            forger.signature_part(BOSS, _TEXT).replace(
                b"application/pkcs7-signature; name=smime.p7s",
                b"text/plain\r\nContent-Disposition: inline; filename=x.p7s",
            ),
        )
    ),
    "mime: a second part with two types": _whole(
        lambda forger: _pair(
            _TEXT,
            b"Content-Type: text/plain\r\n" + forger.signature_part(BOSS, _TEXT),
        )
    ),
}  # fmt: skip
_CMS: dict[str, _Made] = {
    "cms: the attributes of another message": _whole(_attributes_as_content),
    "cms: the signature brings its own content": _whole(_detached_with_content),
    "cms: an opaque signature without content": _whole(_opaque_of_detached),
    "cms: the signature of another text": _whole(_replayed),
    "cms: no signer": _whole(_certificates_only),
    "cms: a signature around a ciphertext": _whole(
        lambda forger: forger.multipart(BOSS, forger.encrypted(_EVIL))
    ),
    "cms: an opaque signature around a ciphertext": _whole(
        lambda forger: forger.opaque(BOSS, forger.encrypted(_EVIL))
    ),
    "cms: mallory signs around what the boss signed": _whole(
        lambda forger: forger.multipart(MALLORY, _mixed(_EVIL, forger.multipart(BOSS, _TEXT)))
    ),
}
_GPG: dict[str, _Made] = {
    "gpg: text before": _text(lambda forger: EVIL + b"\r\n" + _clear(forger)),
    "gpg: text behind": _text(lambda forger: _clear(forger) + EVIL),
    "gpg: text behind, then a fake end": _text(
        lambda forger: _clear(forger) + EVIL + b"\r\n-----END PGP SIGNATURE-----\r\n"
    ),
    "gpg: text among the header lines": _text(
        lambda forger: _clear(forger).replace(b"Hash:", b"Comment: " + EVIL + b"\r\nHash:", 1)
    ),
    "gpg: text instead of a hash": _text(
        lambda forger: _clear(forger).replace(b"Hash: ", b"Hash: " + EVIL + b", ", 1)
    ),
    "gpg: two signed texts": _text(_two_blocks),
    "gpg: a text between texts": _text(
        lambda forger: _clear(forger) + EVIL + b"\r\n" + _clear(forger)
    ),
    "gpg: a text that is not signed any more": _text(
        lambda forger: _clear(forger).replace(b"Please pay invoice 4711.", EVIL, 1)
    ),
    "gpg: text among the lines of the signature": _text(
        lambda forger: _clear(forger).replace(
            b"PGP SIGNATURE-----\r\n", b"PGP SIGNATURE-----\r\nComment: " + EVIL + b"\r\n", 1
        )
    ),
    "gpg: html around": _text(lambda forger: EVIL + b"<!--" + _clear(forger), b"text/html"),
    "gpg: another character set": _text(
        lambda forger: _clear(forger, b"Gr\xfc\xdfe +AGEAYg-\r\n"), b"text/plain; charset=utf-7"
    ),
    "gpg: another character set around ASCII": _text(
        lambda forger: _clear(forger, b"Pay +AGEAYg-\r\n"), b"text/plain; charset=utf-7"
    ),
    "gpg: beside other parts": _whole(
        lambda forger: _mixed(b"Content-Type: text/plain\r\n\r\n" + _clear(forger), _EVIL)
    ),
    "gpg: the signature of another text": _whole(
        lambda forger: _pair(_EVIL, forger.signature_part(BOSS, _TEXT, openpgp=True))
    ),
    "gpg: a text in the first part of an encryption": _whole(
        lambda forger: forger.encrypted(_TEXT, BOSS).replace(b"Version: 1", EVIL)
    ),
    "gpg: a text above an encrypted message": _whole(
        lambda forger: forger.encrypted(_TEXT, BOSS).replace(
            b"application/octet-stream\r\n", b"\r\n" + EVIL
        )
    ),
    "gpg: signed outside of the encryption": _whole(
        lambda forger: forger.multipart(BOSS, forger.encrypted(_EVIL), openpgp=True)
    ),
}
_MALLORY = b"mallory@evil.example"
_BOSS = b"boss@corp.example"
_ID: dict[str, _Made] = {
    "id: another author": _author(_HEADER),
    "id: another author, opaque": lambda forger: _HEADER + _REST + forger.opaque(MALLORY, _TEXT),
    "id: the signer inside": lambda forger: (
        _HEADER + _REST + forger.multipart(MALLORY, b"From: " + _MALLORY + b"\r\n" + _TEXT)
    ),
    "id: the signer inside, opaque": lambda forger: (
        _HEADER + _REST + forger.opaque(MALLORY, b"From: " + _MALLORY + b"\r\n" + _TEXT)
    ),
    "id: the boss inside": lambda forger: (
        b"From: "
        + _MALLORY
        + b"\r\n"
        + _REST
        + forger.multipart(MALLORY, b"From: " + _BOSS + b"\r\n" + _TEXT)
    ),
    "id: two fields": _author(_HEADER + b"From: " + _MALLORY + b"\r\n"),
    "id: two fields, the boss last": _author(b"From: " + _MALLORY + b"\r\n" + _HEADER),
    "id: a field behind a bare CR": _author(b"X: y\rFrom: " + _MALLORY + b"\r\n" + _HEADER),
    "id: a field before a bare CR": _author(b"From: " + _MALLORY + b"\r\nX: y\r" + _HEADER),
    "id: two addresses": _author(b"From: " + _BOSS + b", " + _MALLORY + b"\r\n"),
    "id: two addresses, the signer first": _author(b"From: " + _MALLORY + b", " + _BOSS + b"\r\n"),
    "id: the name is an address": _author(b'From: "' + _BOSS + b'" <' + _MALLORY + b">\r\n"),
    "id: the name is an encoded address": _author(
        b"From: =?utf-8?q?boss=40corp=2Eexample?= <" + _MALLORY + b">\r\n"
    ),
    "id: the signer in an encoded name": _author(
        b"From: =?utf-8?q?mallory=40evil=2Eexample=2C?= <" + _BOSS + b">\r\n"
    ),
    "id: the name is an address in other letters": _author(
        "From: boss＠corp.example <mallory@evil.example>\r\n".encode()
    ),
    "id: a comment": _author(b"From: " + _MALLORY + b" (" + _BOSS + b")\r\n"),
    "id: a group": _author(b"From: " + _BOSS + b": " + _MALLORY + b";\r\n"),
    "id: a route": _author(b"From: <@corp.example:" + _MALLORY + b">\r\n"),
    "id: an address before the brackets": _author(b"From: " + _BOSS + b" <" + _MALLORY + b">\r\n"),
    "id: a folded second address": _author(b"From: " + _MALLORY + b",\r\n " + _BOSS + b"\r\n"),
    "id: a NUL": _author(b"From: " + _BOSS + b"\0 <" + _MALLORY + b">\r\n"),
    "id: white space before the colon": _author(
        b"From : " + _BOSS + b"\r\nFrom: " + _MALLORY + b"\r\n"
    ),
    "id: no author at all": _author(b"Sender: " + _MALLORY + b"\r\n"),
    "id: an address without brackets behind": _author(
        b"From: <" + _MALLORY + b"> " + _BOSS + b"\r\n"
    ),
    "id: invisible letters": _author(
        "From: boss\u200b@corp.example <mallory@evil.example>\r\n".encode()
    ),
}
_UI: dict[str, _Made] = {
    "ui: a mail that looks signed": lambda forger: (
        _HEADER + _REST + b"Content-Type: text/html\r\n\r\n<b>Valid signature by boss</b>" + EVIL
    ),
    "ui: a picture of a seal": lambda forger: (
        _HEADER + _REST + _mixed(_EVIL, b"Content-Type: image/png\r\n\r\nseal")
    ),
    "ui: an attachment named like a signature": lambda forger: (
        _HEADER + _REST
        + _mixed(_EVIL, b"Content-Type: application/octet-stream; name=smime.p7s\r\n\r\nx")
    ),
    "ui: a header that says so": lambda forger: (
        _HEADER + b"X-Signature: valid\r\nAuthentication-Results: x; smime=pass\r\n" + _REST + _EVIL
    ),
    "ui: signed by mallory, in the name of the boss": _author(
        b"From: The Boss of corp.example (boss) <" + _MALLORY + b">\r\n"
    ),
}  # fmt: skip
_OTHER_SHAPES: dict[str, _Made] = {
    f"{name}, {shape}": getattr(made, shape)
    for name, made in _ID.items()
    if isinstance(made, _Author)
    for shape in ("opaque", "encrypted")
}
_KINDS = {**_MIME, **_CMS, **_GPG, **_OTHER_SHAPES, **_ID, **_UI}
ATTACKS = tuple(_KINDS)


def attack(name: str, forger: Forger) -> tuple[bytes, tuple[str, ...]]:
    """(the mail, the words that it may be called)."""
    mail = _KINDS[name](forger)
    if name == "ui: signed by mallory, in the name of the boss":
        # A name is no address: the event shows mallory's, and that is who signed.
        return mail, ("valid", *_NEVER_VALID)
    return mail, _NEVER_VALID
