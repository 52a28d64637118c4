"""The words of a verdict are those of `shared.mail_security` wherever somebody reads them."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any, get_args

import pytest
import yaml

from posthouse import event_data
from shared import revocations
from shared.mail.findings import FindingKind
from shared.mail_security import Covers, Format, Integrity, Layer, Security, Signature, Status
from shared.revocations import Revocation
from shared.rules.conditions import SIGNATURES

pytestmark = pytest.mark.promise("F2")

ROOT = Path(__file__).parents[2]
SCHEMA = ROOT / "sdk" / "schema"
STATUS, SIGNATURE = set(get_args(Status)), set(get_args(Signature))
INTEGRITY, COVERS = set(get_args(Integrity)), set(get_args(Covers))
LAYER_KINDS = {"encryption", "signature", "compression"}


def properties() -> dict[str, Any]:
    event = json.loads((SCHEMA / "mail-received.v1.json").read_text())
    found: dict[str, Any] = event["$defs"]["data"]["properties"]
    return found


def said(docstring: str | None) -> set[str]:
    """The words between backticks."""
    return set(re.findall(r"`([a-z_-]+)`", docstring or ""))


def test_the_schema_of_the_event() -> None:
    security = properties()["security"]["properties"]
    assert set(security["status"]["description"].split(", ")) == STATUS
    signature = security["signature"]["description"]
    assert set(re.findall(r"(\w+): ", signature)) == SIGNATURE - {"none", "valid"}
    assert signature.startswith("none, valid, ")
    assert set(re.findall(r"(\w+): ", security["integrity"]["description"])) == {
        *INTEGRITY,
        "null",
    }
    layers = security["layers"]["items"]["properties"]
    assert set(layers) == set(Layer._fields)
    assert set(layers["kind"]["description"].split(", ")) == LAYER_KINDS
    assert set(layers["format"]["description"].split(", ")) == set(get_args(Format))
    assert all(re.search(rf"\b{word}\b", layers["covers"]["description"]) for word in COVERS)
    assert set(security) <= set(Security._fields)


def test_rules_choose_by_the_same_words() -> None:
    assert set(SIGNATURES) == SIGNATURE


def test_the_words_of_revocation() -> None:
    known = properties()["security"]["properties"]["revocation"]["properties"]
    assert set(known) == set(Revocation().to_json()) == set(event_data.Revocation.__slots__)
    statuses, sources = set(get_args(revocations.Status)), set(get_args(revocations.Source))
    assert set(known["status"]["description"].split(", ")) == statuses
    assert set(known["source"]["description"].split(", ")) == sources
    assert statuses | sources <= said(event_data.Revocation.__doc__)
    page = (ROOT / "services" / "admin" / "templates" / "mails" / "detail.html").read_text()
    assert [word for word in statuses | sources if f'"{word}":' not in page] == []


def test_the_schema_knows_every_finding() -> None:
    finding = properties()["mail"]["properties"]["findings"]["items"]["properties"]
    assert set(finding["kind"]["examples"]) == {str(kind) for kind in FindingKind}


def test_asyncapi_stands_on_that_schema() -> None:
    document = yaml.safe_load((SCHEMA / "asyncapi.yaml").read_text())
    references = re.findall(r"'\$ref': '([^']+)'", str(document))
    assert any(one.endswith("mail-received.v1.json") for one in references)
    assert not [word for word in SIGNATURE - {"none"} if f"'{word}'" in str(document)]


def test_the_types_of_the_sdk() -> None:
    words = said(event_data.Security.__doc__)
    assert words >= STATUS | SIGNATURE | INTEGRITY
    assert words - STATUS - SIGNATURE - INTEGRITY <= set(Security._fields) | {"details"}
    layer = said(event_data.Layer.__doc__)
    assert layer >= LAYER_KINDS | set(get_args(Format)) | COVERS
    fields = set(event_data.Security.__dataclass_fields__)
    assert fields - {"details"} <= set(Security._fields)
    assert set(event_data.Layer.__dataclass_fields__) == set(Layer._fields)


def test_the_page_of_a_mail_has_a_label_for_each_word() -> None:
    page = (ROOT / "services" / "admin" / "templates" / "mails" / "detail.html").read_text()
    for words in (STATUS - {"none"}, SIGNATURE):
        assert [word for word in words if f'"{word}":' not in page] == []


def test_the_threat_model_says_what_each_word_promises() -> None:
    text = (ROOT / "docs" / "threat-model.md").read_text()
    chapter = text.partition("\n## What a verdict about a mail promises\n")[2].partition("\n## ")[0]
    assert SIGNATURE - {"none"} <= said(chapter.replace("signature: valid", "valid"))
