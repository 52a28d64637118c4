"""Forms that cost far more than they weigh: each is read within the bound of any mail."""

from __future__ import annotations

import tracemalloc
from pathlib import Path

import pytest

from services.decryptor.cms_bodies import structure_of
from services.decryptor.opening import may_be_secured
from services.decryptor.openpgp import packets
from services.decryptor.openpgp.recognising import is_file
from services.decryptor.spool import Spool
from shared.mail.region import region
from shared.mail.structure import entity
from tests.rig.time_bound import within_a_second


def _file(disposition: str, name: str = "") -> bool:
    header = f"Content-Type: application/octet-stream{f'; name={name}' if name else ''}\r\n"
    header += f"Content-Disposition: {disposition}\r\n\r\n"
    return is_file(entity(region(header.encode() + b"x")))


@pytest.mark.parametrize(
    ("disposition", "is_one"),
    [
        ("attachment; filename=a.asc", True),
        ('attachment; filename="a b.PGP"', True),
        ("attachment; filename*=utf-8''a.gpg", True),
        ("attachment; filename==?utf-8?q?a.gpg?=", True),
        ("attachment; filename=a.asc; size=3", True),
        ("attachment; filename=a.asc.txt", False),
        ("attachment; comment=a.asc", False),
        ("attachment", False),
    ],
)
def test_a_file_of_openpgp_is_known_by_its_name(disposition: str, is_one: bool) -> None:
    assert _file(disposition) is is_one
    assert _file("attachment", "a.asc")


def test_a_disposition_full_of_names_is_read_once() -> None:
    with within_a_second():
        assert not _file("attachment; x=" + "name" * 60_000)


@pytest.mark.parametrize(
    "again", [b"LS0t", b"LS0tx", b"BEGIN <", b"application/octet-stream\r\n\r\n", b"BEGIN&nbsp;"]
)
def test_what_looks_like_an_armour_is_looked_at_a_bounded_number_of_times(again: bytes) -> None:
    for kind in (b"text/html", b"multipart/mixed; boundary=m"):
        whole = b"Content-Type: " + kind + b"\r\n\r\n-" + again * ((8 << 20) // len(again))
        with within_a_second():
            may_be_secured(entity(region(whole)), whole)


def test_white_space_in_base64_takes_no_room(tmp_path: Path) -> None:
    body = b"MIAG" + b" AA\n" * 500_000
    tracemalloc.start()
    try:
        structure_of(region(body), "7bit", Spool(tmp_path, 1 << 24))
        packets.octets_of(region(b"-----BEGIN PGP MESSAGE-----\n\n" + body))
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < 5 * len(body)
