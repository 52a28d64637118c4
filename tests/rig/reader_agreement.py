"""Whether what is called `valid` is what other readers show."""

from __future__ import annotations

from pathlib import Path

from services.decryptor.opening import open_mail
from services.decryptor.trust import TrustStore
from shared.certificates import IdentityIndex
from shared.mail_security import Security
from tests.servers.readers import ForeignReaders, Seen, words


def disagreement(
    raw: bytes,
    identities: IdentityIndex,
    trust: TrustStore,
    readers: ForeignReaders,
    folder: Path,
) -> tuple[Security, str]:
    """(the verdict, why other readers do not see what it promises; empty where they do)."""
    with open_mail(raw, identities, trust, spool_dir=folder) as opened:
        security, content = opened.security, opened.content
        if isinstance(content, Path):
            content = content.read_bytes()
    if "analysed" in security.reason:
        return security, "the mail could not be analysed"
    if security.signature != "valid":
        return security, ""
    assert security.signer is not None
    if content is None:
        return security, "what is handed out is not what was signed"
    seen = readers.read(content)
    problem = _differs(seen, security.signer)
    if not problem:
        # The mail as it came: nobody may see another author in it, or what nobody signed.
        for name, one in readers.read(raw).items():
            if one.error or one.authors != (security.signer,):
                problem = f"{name} reads {one.authors or one.error} in the original"
            elif "EVIL" in one.everything:
                problem = f"{name} shows in the original what nobody signed"
    return security, problem


def _differs(seen: dict[str, Seen] | object, signer: str) -> str:
    assert isinstance(seen, dict)
    for name, one in seen.items():
        if one.error:
            return f"{name} cannot read it: {one.error}"
        if one.authors != (signer,):
            return f"{name} says that it is from {one.authors}"
        if "EVIL" in one.everything:
            return f"{name} shows what nobody signed"
    reference = seen["email"]
    plain = bool(reference.text.strip())
    for name, one in seen.items():
        mine, theirs = (reference.text, one.text) if plain else (reference.html, one.html)
        if words(mine) != words(theirs):
            return f"{name} shows {words(theirs)!r} where email shows {words(mine)!r}"
    return ""
