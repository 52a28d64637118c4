"""Where hostile input has a short way to be read and a long one, both say the same of it."""

from __future__ import annotations

import base64
import contextlib
import re
from pathlib import Path

import pybase64
import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from services.decryptor.cms.ber import SEQUENCE, items
from services.decryptor.cms.content import content_info
from services.decryptor.cms.enveloped import Envelope, Fields, any_envelope, usual_envelope
from services.decryptor.cms.errors import Malformed
from services.decryptor.cms.recipients import any_transport, usual_transport
from services.decryptor.spool import Spool
from services.decryptor.transfer_encodings import Undecodable, decode
from shared.mail.region import WINDOW, region
from tests.unit.smime.mails import encrypt
from tests.unit.smime.pki import Holder, Pki, ec_key, rsa_key
from tests.unit.smime.test_usual_shape import seen

pytestmark = pytest.mark.promise("C4")
BOUNDED = settings(
    max_examples=400,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)

KEPT = Path(__file__).parent / "cases"
#: (where as a part of the whole, how many octets go, what comes in their place)
Edit = tuple[float, int, bytes]
EDITS = st.lists(
    st.tuples(st.floats(0, 1), st.integers(0, 6), st.binary(max_size=6)), min_size=1, max_size=4
)
#: What length fields and tags are made of: changes there are the ones that matter.
TELLING = st.sampled_from([0x00, 0x01, 0x02, 0x04, 0x06, 0x30, 0x31, 0x80, 0x81, 0x82, 0x83, 0xA0])


def edited(data: bytes, edits: list[Edit]) -> bytes:
    for place, gone, come in edits:
        at = int(place * len(data))
        data = data[:at] + come + data[at + gone :]
    return data


@pytest.fixture(scope="module")
def structures(tmp_path_factory: pytest.TempPathFactory) -> list[bytes]:
    """Envelopes for one and for several, with keys of each usual length."""
    pki = Pki(tmp_path_factory.mktemp("pki"))
    holders: dict[str, Holder] = {
        str(bits): pki.holder(f"rsa{bits}", rsa_key(bits)) for bits in (2048, 3072, 4096)
    }
    from cryptography.hazmat.primitives.asymmetric import ec

    curve = pki.holder("curve", ec_key(ec.SECP256R1()))
    made = [encrypt("-aes128", one.cert, data=b"x" * 300) for one in holders.values()]
    made.append(
        encrypt("-aes256", *(one.cert for one in (*holders.values(), curve)), data=b"x" * 900)
    )
    made.append(encrypt("-aes256", "-keyid", "-recip", holders["2048"].cert, data=b"x" * 300))
    made += [encrypt("-aes256", curve.cert, data=b"x" * size) for size in (20, 300)]
    return made


def long_way(cms: bytes) -> Envelope | None:
    body = region(cms)
    try:
        return any_envelope(body, content_info(body).content, authenticated=False)
    except Malformed:
        return None


def assert_alike(cms: bytes) -> bool:
    """Whether the short way took it at all."""
    short = usual_envelope(region(cms))
    if short is None:
        return False
    long = long_way(cms)
    assert long is not None
    assert isinstance(long.content, Fields)
    assert seen(short) == seen(long)
    return True


@BOUNDED
@given(st.integers(0, 6), EDITS)
def test_envelopes(structures: list[bytes], number: int, edits: list[Edit]) -> None:
    assert_alike(edited(structures[number], edits))


@BOUNDED
@given(st.integers(0, 6), st.integers(0, 700), TELLING)
def test_envelopes_with_one_telling_octet(
    structures: list[bytes], number: int, place: int, octet: int
) -> None:
    data = bytearray(structures[number])
    data[place % len(data)] = octet
    assert_alike(bytes(data))


def test_the_short_way_takes_what_is_usual(structures: list[bytes]) -> None:
    assert all(map(assert_alike, structures))


@BOUNDED
@given(st.integers(0, 6), EDITS, st.booleans())
def test_recipients(
    structures: list[bytes], number: int, edits: list[Edit], end_kept: bool
) -> None:
    envelope = long_way(structures[number])
    assert envelope is not None
    data = structures[number]
    # The SET of recipients begins behind version and lengths; each is edited by itself.
    start = data.index(b"\x02\x01") + 3
    for one in items(data, items(data, start, len(data))[0].start, len(data))[:1]:
        if one.tag != SEQUENCE:
            continue
        content = data[one.start : one.stop]
        changed = (
            edited(content[:-260], edits) + content[-260:] if end_kept else edited(content, edits)
        )
        short = usual_transport(changed, 0, len(changed))
        if short is not None:
            assert any_transport(changed, 0, len(changed)) == short


def test_every_kept_mail(tmp_path: Path) -> None:
    """Those that were read wrongly once, and what they are made of."""
    kept = [path.read_bytes() for path in sorted(KEPT.rglob("*")) if path.is_file()]
    assert len(kept) > 10
    for raw in kept:
        bodies = [raw, *re.split(rb"\r?\n\r?\n|\r?\n--[^\r\n]*\r?\n", raw)]
        for body in bodies:
            assert_decoded_alike(body, tmp_path)
            assert_alike(body)
            with contextlib.suppress(ValueError):
                assert_alike(pybase64.b64decode(body))


@BOUNDED
@given(st.integers(1, 4000), st.integers(4, 90), st.sampled_from([b"\n", b"\r\n"]), EDITS)
def test_base64(tmp_path: Path, size: int, length: int, end: bytes, edits: list[Edit]) -> None:
    text = base64.b64encode(bytes(range(256)) * (size // 256 + 1))[: size // 4 * 4]
    lines = b"".join(text[at : at + length] + end for at in range(0, len(text), length))
    for body in (edited(lines, edits), edited(lines * (WINDOW // (len(lines) or 1) + 2), edits)):
        assert_decoded_alike(body, tmp_path)


def assert_decoded_alike(body: bytes, folder: Path) -> None:
    spool = Spool(folder, 1 << 24)
    try:
        found: bytes | None = decode(region(body), "base64", spool).copy()
    except Undecodable:
        found = None
    finally:
        spool.close()
    try:
        plain: bytes | None = pybase64.b64decode(body)
    except ValueError:
        plain = None
    assert found == plain


@BOUNDED
@given(st.lists(st.integers(1, 40), min_size=1, max_size=12), st.sampled_from([b"\n", b"\r\n"]))
@example(lengths=[4, 20], end=b"\n")
def test_base64_in_lines_of_any_length(tmp_path: Path, lengths: list[int], end: bytes) -> None:
    text = base64.b64encode(bytes(range(256)) * 2)
    lines = [text[sum(lengths[:at]) :][:length] for at, length in enumerate(lengths)]
    body = end.join(lines)
    for tail in (b"", end):
        assert_decoded_alike(body + tail, tmp_path)
