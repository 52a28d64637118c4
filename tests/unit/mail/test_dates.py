"""Dates: the right instant or none, never a wrong one."""

from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared.mail.dates import read_date
from shared.mail.findings import FindingKind

AT = "2026-05-19T10:31:00"


@pytest.mark.parametrize(
    ("sent", "instant"),
    [
        ("Tue, 19 May 2026 12:31:00 +0200", AT),
        ("19 May 2026 12:31:00 +0200 (CEST)", AT),
        (" 19\tMay 2026\r\n 12:31:00 +0200 ", AT),
        ("Tue, 19 May 2026 12:31:00 +0200 (MESZ (summer) \\) x)", AT),
        ("TUE, 19 MAY 2026 12:31:00 +0200", AT),
        ("Tue,19 May 2026 12:31:00+0200", AT),
        ("Tue , 19 May 2026 12 : 31 : 00 +0200", AT),
        ("Tue, 19 May 2026 12:31 +0200", AT),
        ("Tue, 19 May 2026 10:31:00 -0000", AT),
        ("Tue, 19 May 26 10:31:00 GMT", AT),
        ("19 May 126 10:31:00 UT", AT),
        ("19 May 99 10:31:00 UT", "1999-05-19T10:31:00"),
        # From before there was mail: RFC 5322 appendix A.5, and clocks that were never set.
        (
            "Thu,\r\n      13\r\n        Feb\r\n          1969\r\n      23:32\r\n"
            "               -0330 (Newfoundland Time)",
            "1969-02-14T03:02:00",
        ),
        ("Thu, 01 Jan 1970 00:00:00 +0100", "1969-12-31T23:00:00"),
        ("01 Jan 1900 00:00:00 +0000", "1900-01-01T00:00:00"),
        # Zones: obsolete names, and numbers as they are sent.
        ("Tue, 19 May 2026 06:31:00 EDT", AT),
        ("Tue, 19 May 2026 05:31:00 EST", AT),
        ("Tue, 19 May 2026 03:31:00 PDT", AT),
        ("Tue, 19 May 2026 10:31:00 Z", AT),
        ("Tue, 19 May 2026 10:31:00 utc", AT),
        ("Tue, 19 May 2026 12:31:00 CEST", AT),
        ("Tue, 19 May 2026 12:31:00 MESZ", AT),
        ("Tue, 19 May 2026 19:31:00 JST", AT),
        ("Tue, 19 May 2026 12:31:00 +02:00", AT),
        ("Tue, 19 May 2026 12:31:00 +2", AT),
        ("Tue, 19 May 2026 07:31:00 -03", AT),
        ("Tue, 19 May 2026 07:31:00 -3:00", AT),
        ("Tue, 19 May 2026 12:31:00 GMT+0200", AT),
        ("Tue, 19 May 2026 12:31:00 GMT+02:00", AT),
        ("Tue, 19 May 2026 07:31:00 UTC-3", AT),
        ("Tue, 19 May 2026 16:01:00 UTC+05:30", AT),
        ("Tue, 19 May 2026 12:31:00 +0200 CEST", AT),
        ("Tue, 19 May 2026 12:31:00 +0200 W. Europe Daylight Time", AT),
        ("Tue, 19 May 2026 12:31:00 +0200 (Mitteleurop\u00e4ische Sommerzeit)", AT),
        ("Tue, 19 May 2026 10:31:00 0000", AT),
        ("Wed, 20 May 2026 00:31:00 +1400", AT),
        # Without a zone: UTC, and said.
        ("Tue, 19 May 2026 10:31:00", AT),
        ("19 May 2026 10:31", AT),
        # Other orders.
        ("Tue, May 19 2026 12:31:00 +0200", AT),
        ("May 19, 2026 12:31:00 +0200", AT),
        ("Tue May 19 10:31:00 2026", AT),
        ("Tue May 19 06:31:00 EDT 2026", AT),
        ("Tue May 19 2026 12:31:00 GMT+0200 (CEST)", AT),
        ("Tue May  9 10:31:00 2026 +0000", "2026-05-09T10:31:00"),
        ("Tuesday, 19-May-26 10:31:00 GMT", AT),
        ("19-May-2026 12:31:00 +0200", AT),
        ("12:31:00 19 May 2026 +0200", AT),
        ("2026-05-19T12:31:00+02:00", AT),
        ("2026-05-19 12:31:00 +0200", AT),
        ("2026-05-19T10:31:00.123456Z", AT),
        ("2026-05-19T10:31Z", AT),
        ("2026-05-19 10:31:00", AT),
        # Hours of other kinds.
        ("Tue, 19 May 2026 9:31:00 +0200", "2026-05-19T07:31:00"),
        ("Tue, 19 May 2026 1:05:09 +0000", "2026-05-19T01:05:09"),
        ("9 May 2026 1:5:9 +0000", "2026-05-09T01:05:09"),
        ("Tue, 19 May 2026 10:31:00 PM +0000", "2026-05-19T22:31:00"),
        ("Tue, 19 May 2026 12:31:00 AM +0000", "2026-05-19T00:31:00"),
        ("Tue, 19 May 2026 12.31.00 +0200", AT),
        ("Tue, 30 Jun 2026 23:59:60 +0000", "2026-07-01T00:00:00"),
        # Months of other languages.
        ("Di, 19 Mai 2026 12:31:00 +0200", AT),
        ("Di, 19. Mai 2026 12:31:00 +0200", AT),
        ("Do, 19 M\u00e4rz 2026 12:31:00 +0200", "2026-03-19T10:31:00"),
        ("Mo, 19 Okt 2026 12:31:00 +0200", "2026-10-19T10:31:00"),
        ("mar., 19 mai 2026 12:31:00 +0200", AT),
        ("mar, 19 mayo 2026 12:31:00 +0200", AT),
        ("lun. 7 d\u00e9c. 2026 12:31:00 +0100", "2026-12-07T11:31:00"),
        ("19 September 2026 12:31:00 +0200", "2026-09-19T10:31:00"),
        ("martes, 19 de mayo de 2026 12:31:00 +0200", AT),
        ("ter\u00e7a-feira, 19 de maio de 2026 12:31:00 +0200", AT),
        # What is left around a date or its zone.
        ('"19-May-2026 12:31:00 +0200"', AT),
        ('Tue, 19 May 2026 12:31:00 "GMT+02:00"', AT),
        ('Tue, 19 May 2026 12:31:00 +0200 "CEST"', AT),
        ("Tue, 19 May 2026 12:31:00 +0200;", AT),
        ("Tue, 19 May 2026 12:31:00 +0200.", AT),
        ("Tue, 19 May 2026 12:31:00 +0200 (CEST))", AT),
        ("Tue, 19 May 2026 12:31:00 +0200 +02:00", AT),
        ("Tue, 19 May 2026 at 12:31:00 +0200", AT),
        ("2026/05/19 12:31:00 +0200", AT),
    ],
)
def test_instants(sent: str, instant: str) -> None:
    expected = datetime.fromisoformat(instant).replace(tzinfo=UTC)
    assert read_date(sent.encode()).at == expected
    assert read_date(sent.encode("cp1252")).at == expected


@pytest.mark.parametrize(
    "sent",
    [
        "Вт, 19 май 2026 13:31:00 +0300",
        "Вт, 19 мая 2026 13:31:00 +0300 (Москва)",
        "Sal, 19 Mayıs 2026 13:31:00 +0300",
        "周二, 19 五月 2026 18:31:00 +0800",
        "火, 19 5月 2026 19:31:00 +0900",
        "화, 19 05월 2026 19:31:00 +0900",
        "火, 19 May 2026 19:31:00 +0900 (日本標準時)",
    ],
)
def test_months_of_other_scripts(sent: str) -> None:
    read = read_date(sent.encode())
    assert read.at == datetime.fromisoformat(AT).replace(tzinfo=UTC)


@pytest.mark.parametrize(
    "sent",
    [
        "yesterday", "0", "1779186660", "99 Foo 99999 25:61:61 +9999", "Tue, 19 May 2026",
        "Mon, 31 Feb 2026 10:30:05 +0000", "19 May 2026 24:00:00 +0000", "19 May 2026 12:60 +0000",
        "01 Jun 9999 23:59:59 -9959", "19 May 2026 12:31:00 +2400", "19 May 2026 12:31:00 +0260",
        "31 Dec 1899 23:59:59 +0000", "01 Jan 1900 00:00:00 +0100", "01 Jan 1066 00:00:00 UT",
        # Two readers, two instants.
        "Tue, 19 May 2026 12:31:00 0200", "Tue, 19 May 2026 12:31:00 +100",
        "Tue, 19 May 2026 12:31:00 IST", "Tue, 19 May 2026 12:31:00 BST",
        "Tue, 19 May 2026 12:31:00 A", "Tue, 19 May 2026 12:31:00 XYZ",
        "Tue, 19 May 2026 12:31:00 EST +0200", "Tue, 19 May 2026 12:31:00 +0200 +0300",
        "05/06/2026 12:31:00 +0200", "05-06-2026 12:31:00 +0200", "05.06.2026 12:31 +0200",
        "19 May 2026 12:31:00 +0200, 20 May 2026 12:31:00 +0200", "19 lis 2026 12:31:00 +0200",
        "19 May Jun 2026 12:31:00 +0200", "12:31:00 13:31:00 19 May 2026 +0000",
        "19 May 2026 12:31:00 GMT +0200", "19 May 2026 12:31:00 +0200; +0300",
        "19 13月 2026 12:31:00 +0200", "月 2026 12:31:00 +0200", "19 5 月 2026 12:31:00 +0200",
        "2026/05-19 12:31:00 +0200", "19/05/2026 12:31:00 +0200", "de 12:31:00 +0200",
        "19 May 2026 12:31:00 +0200 <x@y>", "19 May 2026; 12:31:00 +0200",
        "19 19 May 2026 12:31:00 +0000", "19 May 2026 12:31:00 +0000 19",
    ],
)  # fmt: skip
def test_no_instant_is_better_than_a_wrong_one(sent: str) -> None:
    read = read_date(sent.encode())
    assert read.at is None
    assert [one.kind for one in read.findings] == [FindingKind.UNREADABLE_DATE]


def test_what_is_no_form_of_the_rfc_is_said() -> None:
    def kinds(sent: bytes) -> list[FindingKind]:
        return [one.kind for one in read_date(sent).findings]

    assert kinds(b"Tue, 19 May 2026 12:31:00 +0200") == []
    assert kinds(b"19 May 26 06:31 EDT") == []
    assert kinds(b"Tue, 19 May 2026 12:31:00 +02:00") == [FindingKind.NONSTANDARD_DATE]
    assert kinds(b"Tue, 19 May 2026 12:31:00") == [FindingKind.DATE_WITHOUT_ZONE]


@given(
    st.datetimes(datetime(1971, 1, 1), datetime(8999, 1, 1)),
    st.integers(-11 * 60, 13 * 60),
    st.sampled_from(
        ["%a, %d %b %Y %H:%M:%S {}", "%d %b %Y %H:%M:%S {}", "%a %b %d %H:%M:%S {} %Y"]
    ),
)
def test_every_instant_and_offset(at: datetime, minutes: int, form: str) -> None:
    sign = "-" if minutes < 0 else "+"
    zone = f"{sign}{abs(minutes) // 60:02}{abs(minutes) % 60:02}"
    read = read_date(at.strftime(form).format(zone).encode()).at
    assert read is not None
    local = at.replace(microsecond=0, tzinfo=UTC)
    assert (local - read).total_seconds() == minutes * 60


@given(st.binary(max_size=200))
def test_no_octets_raise(octets: bytes) -> None:
    read_date(octets)
    read_date(b"Tue, 19 May 2026 12:31:00 " + octets)
    read_date(octets + b" 19 May 2026")
