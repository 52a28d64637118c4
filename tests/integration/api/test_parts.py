"""One part of a mail by its path: decoded, in ranges, safe, and for those who may read the mail."""

from __future__ import annotations

import base64
import random
import uuid
from email.message import EmailMessage
from pathlib import Path
from urllib.parse import quote

import pytest

from shared.mail.facts import read_facts
from shared.mail.region import region
from tests.integration.api.conftest import TOKEN, Api, Posthouse
from tests.integration.api.test_connections import problem
from tests.integration.api.test_messages import add_mail
from tests.rig.commands import Commands
from tests.rig.tnef_writer import file, stream

pytestmark = pytest.mark.promise("F4")
FILE = random.Random(3).randbytes(3 << 20)


def mail(attachment: bytes = FILE) -> bytes:
    made = EmailMessage()
    made["From"] = "ann@example.org"
    made.set_content("Hello\n")
    made.add_alternative("<script>alert(1)</script>", subtype="html")
    made.add_attachment(
        attachment, maintype="application", subtype="pdf", filename='Größe "1"/2.pdf'
    )
    return made.as_bytes()


@pytest.mark.parametrize("size", [0, 1000, len(FILE)])
def test_a_part_comes_decoded_with_a_safe_name_and_type(api: Api, size: int) -> None:
    found = add_mail(api, api.create()["id"], raw=mail(FILE[:size]))
    answer = api.http.get(f"messages/{found}/parts/2")
    assert answer.content == FILE[:size]
    assert answer.headers["content-length"] == str(size)
    assert answer.headers["content-type"] == "application/pdf"
    assert (
        answer.headers["content-disposition"]
        == "attachment; filename*=UTF-8''Gr%C3%B6%C3%9Fe%20%221%22_2.pdf"
    )
    html = api.http.get(f"messages/{found}/parts/1.2")
    assert html.text.strip() == "<script>alert(1)</script>"
    assert html.headers["content-type"] == "application/octet-stream"
    assert html.headers["x-content-type-options"] == "nosniff"
    assert "sandbox" in html.headers["content-security-policy"]


@pytest.mark.parametrize(
    ("said", "octets", "told"),
    [
        ("text/plain; charset=ISO-8859-1", b"\xfc\xdf\n", "text/plain; charset=iso-8859-1"),
        ("text/plain; charset=us-ascii", b"\xfc\xdf\n", "text/plain"),
        ("text/plain; charset=klingon", b"\xfc\xdf\n", "text/plain"),
        ("text/plain; charset=utf-8", b"\xfc\xdf\n", "text/plain"),
        ("text/plain; charset=utf-7", b"+ADw-\n", "text/plain"),
        ('text/plain; charset="utf-8; x"', b"x\n", "text/plain"),
        ("text/plain", b"x\n", "text/plain; charset=us-ascii"),
        ("text/csv; charset=us-ascii", "ü;ß\n".encode(), "text/csv; charset=utf-8"),
        ("text/plain; charset=big5", b"\xa4\xa4\n", "text/plain; charset=big5"),
        ("text/html; charset=utf-8", b"<p>", "application/octet-stream"),
        ("text/plain; charset=iso-8859-1", b"\xfc\n" * (1 << 20), "text/plain; charset=iso-8859-1"),
        ("text/plain; charset=utf-8", "ü\n".encode() * (1 << 20) + b"\xfc", "text/plain"),
        ("text/plain", b"x\n" * (1 << 20) + "ü".encode(), "text/plain; charset=utf-8"),
    ],
)
def test_a_text_has_a_charset_that_its_octets_have(
    api: Api, said: str, octets: bytes, told: str
) -> None:
    raw = b"Content-Type: %s\r\nContent-Transfer-Encoding: 8bit\r\n\r\n" % said.encode() + octets
    found = add_mail(api, api.create()["id"], raw=raw)
    for asked in ({}, {"Range": "bytes=0-1"}):
        answer = api.http.get(f"messages/{found}/parts/1", headers=asked)
        assert answer.content == octets[: 2 if asked else None]
        assert answer.headers.get_list("content-type") == [told]
        assert answer.headers["x-content-type-options"] == "nosniff"


@pytest.mark.parametrize(
    ("wanted", "status", "octets", "content_range"),
    [
        ("bytes=0-9", 206, slice(0, 10), "bytes 0-9/{size}"),
        ("bytes=300000-700000", 206, slice(300_000, 700_001), "bytes 300000-700000/{size}"),
        ("bytes=3145700-", 206, slice(3_145_700, None), "bytes 3145700-3145727/{size}"),
        ("bytes=-5", 206, slice(-5, None), "bytes 3145723-3145727/{size}"),
        ("bytes=5-99999999", 206, slice(5, None), "bytes 5-3145727/{size}"),
        ("bytes=9-5", 200, slice(None), None),
        ("bytes=0-1,4-5", 200, slice(None), None),
        ("lines=1-2", 200, slice(None), None),
    ],
)
def test_a_range_of_a_part(
    api: Api, wanted: str, status: int, octets: slice, content_range: str | None
) -> None:
    found = add_mail(api, api.create()["id"], raw=mail())
    answer = api.http.get(f"messages/{found}/parts/2", headers={"Range": wanted})
    assert answer.status_code == status
    assert answer.content == FILE[octets]
    expected = content_range and content_range.format(size=len(FILE))
    assert answer.headers.get("content-range") == expected


def test_a_range_beyond_the_part_is_refused(api: Api) -> None:
    found = add_mail(api, api.create()["id"], raw=mail(b"12345"))
    answer = api.http.get(f"messages/{found}/parts/2", headers={"Range": "bytes=5-9"})
    problem(answer, 416)
    assert answer.headers["content-range"] == "bytes */5"
    assert api.http.get(f"messages/{found}/parts/2").content == b"12345"
    # Nobody can know a state of a part that its range would belong to: the whole (RFC 9110 13.1.5).
    asked = {"Range": "bytes=1-2", "If-Range": '"an older state"'}
    whole = api.http.get(f"messages/{found}/parts/2", headers=asked)
    assert (whole.status_code, whole.content) == (200, b"12345")


def test_what_is_not_there_is_said(api: Api) -> None:
    found = add_mail(api, api.create()["id"], raw=mail(b"x"))
    for path in ("3", "1", "2.1", "0", "x", "1" * 150):
        answer = problem(api.http.get(f"messages/{found}/parts/{path}"), 404)
        assert answer["code"] == "no-such-part"
    answer = problem(api.http.get(f"messages/{uuid.uuid4()}/parts/1"), 404)
    assert answer["code"] == "not-found"
    gone = add_mail(api, api.create()["id"], columns={"raw_key": "raw/2001/01/01/gone"})
    problem(api.http.get(f"messages/{gone}/parts/1"), 404)


def test_parts_are_those_of_the_opened_form(api: Api) -> None:
    opened = b"Subject: x\r\nContent-Transfer-Encoding: base64\r\n\r\n" + base64.b64encode(b"open")
    found = add_mail(api, api.create()["id"], raw=b"Subject: x\r\n\r\nsealed", opened=opened)
    assert api.http.get(f"messages/{found}/parts/1").content == b"open"
    original = api.http.get(f"messages/{found}/parts/1", params={"original": True})
    assert original.content == b"sealed"


def test_a_handler_reads_parts_of_its_own_mails_alone(api: Api) -> None:
    mine, other = api.create()["id"], api.create(name="other")["id"]
    made = api.http.post("handlers", json={"name": "parts", "connections": [mine]}).json()
    own = add_mail(api, mine, raw=mail(b"own"), handler_id=made["id"])
    foreign = add_mail(api, other, raw=mail(b"no"))
    with api.as_token(made["token"]) as client:
        assert client.get(f"messages/{own}/parts/2").content == b"own"
        assert "/api/v1/messages/{id}/raw" in problem(client.get(f"messages/{own}"), 403)["hint"]
        problem(client.get(f"messages/{foreign}/parts/2"), 404)


def test_the_parts_are_listed_as_events_have_them(api: Api) -> None:
    mine, other = api.create()["id"], api.create(name="another")["id"]
    made = api.http.post("handlers", json={"name": "lists", "connections": [mine]}).json()
    packed = stream(file(b"A.PDF", b"%PDF-1", "a.pdf"))
    raw = EmailMessage()
    raw.set_content("Hello\n")
    raw.add_attachment(b"12345", maintype="image", subtype="png", filename="../a.png")
    raw.add_attachment(packed, maintype="application", subtype="ms-tnef", filename="winmail.dat")
    own = add_mail(api, mine, raw=raw.as_bytes(), handler_id=made["id"])
    foreign = add_mail(api, other, raw=mail(b"no"))
    event = read_facts(region(raw.as_bytes()), trusted=(), text_limit=0).to_json()
    with api.as_token(made["token"]) as client:
        listed = client.get(f"messages/{own}/parts").json()
        assert listed == {"items": event["parts"], "left_off": 0}
        assert [one["path"] for one in listed["items"]] == ["1", "2", "3", "3.1"]
        for one in listed["items"]:
            assert len(client.get(f"messages/{own}/parts/{one['path']}").content) == one["size"]
        problem(client.get(f"messages/{foreign}/parts"), 404)
    problem(api.http.get(f"messages/{uuid.uuid4()}/parts"), 404)


def test_parts_are_listed_of_the_opened_form(api: Api) -> None:
    found = add_mail(api, api.create()["id"], raw=b"X: y\r\n\r\nsealed", opened=mail(b"open"))
    paths = [one["path"] for one in api.http.get(f"messages/{found}/parts").json()["items"]]
    assert paths == ["1.1", "1.2", "2"]
    original = api.http.get(f"messages/{found}/parts", params={"original": True}).json()
    assert [one["size"] for one in original["items"]] == [len(b"sealed")]


def test_the_commands_list_parts_and_save_one_under_a_safe_name(
    api: Api, posthouse: Posthouse, tmp_path: Path
) -> None:
    found = str(add_mail(api, api.create()["id"], raw=mail(b"%PDF")))
    listed = posthouse("messages", "parts", found).out
    assert listed.splitlines()[0].split() == ["path", "type", "name", "disposition", "size"]
    assert 'Größe "1"_2.pdf' in listed
    assert [
        one["path"] for one in posthouse("messages", "parts", found, "--json").json["items"]
    ] == [
        "1.1",
        "1.2",
        "2",
    ]
    into = tmp_path / "into"
    into.mkdir()
    for name in ('Größe "1"_2.pdf', 'Größe "1"_2 (2).pdf'):  # never over another file
        saved = posthouse("messages", "part", found, "2", "--output", str(into))
        assert saved.out.strip() == str(into / name)
    assert {one.read_bytes() for one in into.iterdir()} == {b"%PDF"}
    named = tmp_path / "named"
    assert posthouse("messages", "part", found, "2", "-o", str(named)).code == 0
    assert named.read_bytes() == b"%PDF"
    assert posthouse("messages", "part", found, "1.1").out == "Hello\n"


@pytest.mark.parametrize("name", ["..", ".bashrc", "...", "-rf", "a\x00b", "C:evil"])
def test_no_name_of_a_sender_leaves_the_folder_or_hides_in_it(
    api: Api, posthouse: Posthouse, tmp_path: Path, name: str
) -> None:
    raw = b"Content-Type: application/x-sh\r\nContent-Disposition: attachment; filename*=UTF-8''"
    raw += quote(name, safe="").encode() + b"\r\n\r\necho"
    found = str(add_mail(api, api.create()["id"], raw=raw))
    saved = posthouse("messages", "part", found, "1", "-o", str(tmp_path))
    assert saved.code == 0, saved.err
    (file,) = tmp_path.iterdir()
    assert file.read_bytes() == b"echo"
    assert not file.name.startswith(".")
    assert not set("\x00:/") & set(file.name)


def test_a_part_that_is_not_there_leaves_the_file_alone(
    api: Api, posthouse: Posthouse, tmp_path: Path
) -> None:
    found = str(add_mail(api, api.create()["id"], raw=mail(b"x")))
    kept = tmp_path / "kept"
    kept.write_bytes(b"before")
    for output in (kept, tmp_path):
        missing = posthouse("messages", "part", found, "9", "--output", str(output))
        assert (missing.code, "no part 9" in missing.err) == (1, True)
    assert [one.read_bytes() for one in tmp_path.iterdir()] == [b"before"]


def test_a_part_behind_the_end_of_the_list_is_saved_too(
    api: Api, posthouse: Posthouse, tmp_path: Path
) -> None:
    parts = b"".join(b"--B\r\n\r\n%d\r\n" % number for number in range(1, 212))
    raw = b"Content-Type: multipart/mixed; boundary=B\r\n\r\n" + parts + b"--B--\r\n"
    found = str(add_mail(api, api.create()["id"], raw=raw))
    assert "11 more are not listed" in posthouse("messages", "parts", found).out
    saved = posthouse("messages", "part", found, "211", "-o", str(tmp_path))
    assert saved.code == 0, saved.err
    assert (tmp_path / "part-211").read_bytes() == b"211"
    missing = posthouse("messages", "part", found, "212", "-o", str(tmp_path))
    assert (missing.code, "no part 212" in missing.err) == (1, True)
    assert [one.name for one in tmp_path.iterdir()] == ["part-211"]


@pytest.mark.promise("T1")
def test_what_a_stranger_sent_reaches_no_terminal_as_it_is(api: Api, commands: Commands) -> None:
    found = str(add_mail(api, api.create()["id"], raw=b"X: y\r\n\r\n\x1b]0;owned\x07"))
    ours = {"POSTHOUSE_URL": api.url, "POSTHOUSE_TOKEN": TOKEN, "TERM": "xterm"}
    shown = commands.run(("messages", "part", found, "1"), ours, columns=80)
    assert shown.code == 2
    assert "--output" in shown.out
    assert "owned" not in shown.out
    whole = commands.run(("messages", "raw", found), ours, columns=80)
    assert whole.code == 0
    assert "]0;owned" in whole.out
    assert not {"\x1b", "\x07"} & set(whole.out)
    # A pipe has it as it came.
    assert commands.run(("messages", "part", found, "1"), ours).out == "\x1b]0;owned\x07"
    assert "\x1b]0;owned\x07" in commands.run(("messages", "raw", found), ours).out


def test_answers_that_nobody_reads_hold_up_nobody(api: Api) -> None:
    """More large mails than may be open at a time, each left in the middle."""
    found = add_mail(api, api.create()["id"], raw=mail())
    for _ in range(9):
        with api.http.stream("GET", f"messages/{found}/parts/2") as answer:
            assert next(answer.iter_raw(1000))
    assert api.http.get(f"messages/{found}/parts/2").content == FILE
    for _ in range(9):
        beyond = api.http.get(f"messages/{found}/parts/2", headers={"Range": "bytes=9999999-"})
        problem(beyond, 416)
    assert api.http.get(f"messages/{found}/parts/2").content == FILE


def test_a_large_part_needs_little_memory(api: Api) -> None:
    octets = random.Random(5).randbytes(90 << 20)
    found = add_mail(api, api.create()["id"], raw=mail(octets))
    before, most = _memory(), 0
    with api.http.stream("GET", f"messages/{found}/parts/2") as answer:
        position = 0
        for piece in answer.iter_raw():
            assert octets[position : position + len(piece)] == piece
            position += len(piece)
            most = max(most, _memory())
    assert position == len(octets)
    assert most - before < 32 << 20


def _memory() -> int:
    """Octets of this process, in which the API runs, without pages of files."""
    status = Path("/proc/self/status").read_text()
    return int(status.partition("RssAnon:")[2].split()[0]) * 1024


def test_a_file_in_a_winmail_dat_is_a_part(api: Api) -> None:
    """Of a large mail too, and in ranges."""
    made = EmailMessage()
    made["From"] = "ann@example.org"
    made.set_content("Hello\n")
    packed = stream(file(b"A.TXT", b"first"), file(b"B.PDF", FILE, "Größe.pdf", "application/pdf"))
    made.add_attachment(packed, maintype="application", subtype="ms-tnef", filename="winmail.dat")
    found = add_mail(api, api.create()["id"], raw=made.as_bytes())
    answer = api.http.get(f"messages/{found}/parts/2.2")
    assert answer.content == FILE
    assert answer.headers["content-type"] == "application/pdf"
    assert "Gr%C3%B6%C3%9Fe.pdf" in answer.headers["content-disposition"]
    ranged = api.http.get(f"messages/{found}/parts/2.2", headers={"Range": "bytes=300000-700000"})
    assert ranged.content == FILE[300_000:700_001]
    problem(api.http.get(f"messages/{found}/parts/2.3"), 404)
