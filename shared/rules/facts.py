"""What rules may ask of a mail, and the part of it that the ledger keeps for a dry run.

A fact that is None could not be read, or was not kept: what asks it is answered neither yes nor no.
So is what asks for something that is not there where more may stand behind what was read.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence, Set
from typing import Any, Final, NamedTuple

from posthouse.mail import is_attachment
from shared.mail.addresses import ADDRESS_LIMIT, lowered
from shared.mail.findings import Finding, FindingKind
from shared.mail.summary import SUBJECT_LIMIT
from shared.untrusted_text import storable

#: The ledger keeps so much of each, whatever a mail holds.
_MOST_KEPT: Final = 20
_LONGEST_KEPT: Final = 254
_PERSON: Final = "person"
#: What a mail without parts of other types has; nothing is kept of these.
_USUAL_TYPES: Final = ["text/plain"]
#: Media types that nearly every mail has.
_SHORT: Final = {"text/plain": "t", "text/html": "h"}
_LONG: Final = {short: long for long, short in _SHORT.items()}
#: Findings of a mail that may have other parts than those that were found.
_NOT_ALL_PARTS: Final = {FindingKind.TOO_MANY_PARTS, FindingKind.TOO_DEEP}


class RuleFacts(NamedTuple):
    """The facts of one mail. Addresses, types and methods are in lower case.

    `connection`: None where it is gone; `folder`: INBOX for the inbox;
    `envelope`: addresses that servers noted as the recipient; `authentication`: `dmarc=pass` …;
    `addressed_complete`, `parts_complete`: whether all are there; `parts`: media types; `headers`:
    values by name in lower case, `headers_cut` the names of those that were cut ("" for any);
    `size`: octets of the form that handlers read; `is_cut`: the header is longer than is read.
    """

    connection: str | None = ""
    folder: str = "INBOX"
    sender: str | None = ""
    addressed: tuple[str, ...] = ()
    addressed_complete: bool = True
    subject: str = ""
    size: int = 0
    signature: str | None = "none"
    encrypted: bool | None = False
    envelope: tuple[str, ...] | None = None
    kind: str | None = None
    parts: tuple[str, ...] | None = None
    parts_complete: bool = False
    authentication: tuple[str, ...] | None = None
    headers: Mapping[str, Sequence[str]] | None = None
    headers_cut: Set[str] = frozenset()
    is_cut: bool = False

    @property
    def has_whole_subject(self) -> bool:
        return not self.is_cut and len(self.subject) < SUBJECT_LIMIT

    @property
    def recipients(self) -> tuple[str, ...]:
        """To, Cc and what is known of the envelope."""
        return tuple(dict.fromkeys((*self.addressed, *(self.envelope or ()))))


def all_addressed(to: Sequence[str], cc: Sequence[str]) -> bool:
    """Whether these are all that a mail is addressed to: of more, the first ones are read."""
    return max(len(to), len(cc)) < ADDRESS_LIMIT


def is_cut(findings: Iterable[Finding]) -> bool:
    """Whether a header with these findings is longer than is read."""
    return any(one.kind is FindingKind.HEADER_TOO_LONG for one in findings)


def tag_of(address: str) -> str:
    """What stands behind the plus of the local part; empty where nothing does."""
    return address.rpartition("@")[0].partition("+")[2]


def without_tag(address: str) -> str:
    """The address as it is without its tag."""
    local, at, domain = address.rpartition("@")
    return local.partition("+")[0] + at + domain


def kept(mail: Mapping[str, Any]) -> dict[str, Any]:
    """What the ledger keeps of `data.mail` of an event: short names, nothing that is usual.

    Some 40 octets of a usual mail, as there are as many of these as mails.
    """
    if "problem" in mail:
        return {"x": 1}
    found: dict[str, Any] = {}
    if (kind := mail.get("kind", _PERSON)) != _PERSON:
        found["k"] = kind
    if delivered := mail.get("delivered_to"):
        found["d"] = [_lower(one["address"]) for one in delivered[:_MOST_KEPT]]
    parts = mail.get("parts", ())
    types = [part["content_type"] for part in parts]
    if types != _USUAL_TYPES:
        types = list(dict.fromkeys(types))
        if types != _USUAL_TYPES:
            found["p"] = _joined([_SHORT.get(one) or _lower(one) for one in types[:_MOST_KEPT]])
    findings = {one["kind"] for one in mail.get("findings", ())}
    if len(types) > _MOST_KEPT or mail.get("parts_left_off") or findings & _NOT_ALL_PARTS:
        found["m"] = 1
    attached = 0
    for one in parts:
        attached += is_attachment(one["disposition"], one["name"], one["content_type"])
    if attached:
        found["n"] = attached
    if results := mail.get("authentication"):
        # One for each signature of a domain: of many, the last ones say most.
        verdicts = dict.fromkeys(_lower(f"{one['method']}={one['result']}") for one in results)
        found["a"] = _joined(verdicts)
    if FindingKind.HEADER_TOO_LONG in findings:
        found["c"] = 1  # or that of a part: what it is may stand behind what was read
    return found


def with_kept(facts: RuleFacts, found: Mapping[str, Any] | None, *, opened: bool) -> RuleFacts:
    """`facts` with what `kept` made of the mail; None: nothing was kept.

    `opened`: nothing of the mail stayed encrypted, so that its parts are those that it has.
    """
    if found is None or "x" in found:
        return _cut(facts) if facts.is_cut else facts
    parts = tuple(_LONG.get(one, one) for one in found.get("p", "t").split(" "))
    envelope = tuple(found.get("d", ()))
    facts = facts._replace(
        addressed_complete=facts.addressed_complete and len(envelope) < _MOST_KEPT,
        kind=found.get("k", _PERSON),
        envelope=envelope,
        parts=parts,
        parts_complete=opened and "m" not in found,
        authentication=tuple(found.get("a", "").split()),
    )
    return _cut(facts) if facts.is_cut or "c" in found else facts


def _cut(facts: RuleFacts) -> RuleFacts:
    """Of a mail whose header is longer than is read: what is not there may stand behind that, and
    any field there may make it another kind, or say that it is encrypted, signed, of many parts."""
    return facts._replace(
        sender=facts.sender or None,
        addressed_complete=False,
        signature=None if facts.signature == "none" else facts.signature,
        encrypted=facts.encrypted or None,
        kind=None,
        parts=None,
        is_cut=True,
    )


def _joined(texts: Iterable[str]) -> str:
    """Types and results hold no space; one that does is none that a rule could ask for."""
    return " ".join([text.replace(" ", "") for text in texts])


def _lower(text: str) -> str:
    """Cut, and without what cannot stand in Postgres' JSON: NUL, half of a surrogate pair."""
    text = lowered(text[:_LONGEST_KEPT])
    if text.isascii() and text.isprintable():
        return text
    return storable(text)
