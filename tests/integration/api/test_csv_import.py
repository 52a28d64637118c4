"""Connections from a CSV file: over the API, the command, and what is refused."""

from __future__ import annotations

import uuid
from pathlib import Path
from typing import Any

import pytest

from tests.integration.api.conftest import Api, Posthouse
from tests.integration.api.test_connections import problem

HEAD = "name,mode,host,username,password,interval_minutes,tags"


def sent(api: Api, text: str | bytes, *, dry_run: bool = False) -> Any:
    content = text.encode() if isinstance(text, str) else text
    return api.http.post(
        "connections/import",
        params={"dry_run": dry_run},
        files={"file": ("list.csv", content, "text/csv")},
    )


def total(api: Api) -> int:
    return int(api.http.get("connections").json()["total"])


@pytest.mark.parametrize(
    ("delimiter", "start"), [(",", ""), (";", "\ufeff"), ("\t", "")], ids=["comma", "excel", "tab"]
)
def test_a_file_is_checked_then_added_whole(api: Api, delimiter: str, start: str) -> None:
    mark = uuid.uuid4().hex[:8]
    lines = [
        HEAD.split(","),
        [f"One {mark}", "imap", "h.invalid", "one@x", "=pass+word", "7", '"Sales, emea"'],
        [f'"Two ""{mark}"""', "pop3", "h.invalid", "two@x", "p", "", ""],
    ]
    text = start + "\r\n".join(delimiter.join(line) for line in lines) + "\r\n"
    before = total(api)
    checked = sent(api, text, dry_run=True).json()
    assert (checked["done"], checked["fault_count"], total(api)) == (False, 0, before)
    assert [(row["line"], row["name"]) for row in checked["rows"]] == [
        (2, f"One {mark}"),
        (3, f'Two "{mark}"'),
    ]
    assert sent(api, text).json()["done"] is True
    one, two = api.http.get("connections", params={"q": mark}).json()["items"]
    assert (one["interval_minutes"], one["tags"]) == (7, ["emea", "sales"])
    assert (one["has_password"], one["enabled"], two["mode"]) == (True, False, "pop3")
    entries = api.http.get("audit", params={"subject": f"connection/{one['id']}"}).json()["items"]
    assert entries[0]["action"] == "import"


@pytest.mark.parametrize(
    ("text", "line", "column", "part"),
    [
        (f"{HEAD}\n=cmd(),imap,h,u,p,1,", 2, 1, "formula"),
        (f"{HEAD}\nfine,imap,h,u,p,1,\nx,imap,h,@u,p,1,", 3, 4, "formula"),
        (f'{HEAD}\n" =1+1",imap,h,u,p,1,', 2, 1, "formula"),
        (f"{HEAD}\n\uff1d1+1,imap,h,u,p,1,", 2, 1, "formula"),
        (f'{HEAD}\nx,imap,h,u,p,1,"sales, =1+1"', 2, 7, "formula"),
        (f"{HEAD}\nx,imap,h,u,p,61,", 2, 6, "from 1 to 60"),
        (f"{HEAD}\nx,imap,h,u,p,1.5,", 2, 6, "from 1 to 60"),
        (f"{HEAD}\nx,imap,h,u,,1,", 2, 5, "password is missing"),
        (f"{HEAD}\nx,imapp,h,u,p,1,", 2, 2, "is one of"),
        (f"{HEAD}\nx,imap,h,u,p,1,a,b", 2, 8, "8 cells"),
        (f"{HEAD}\nsame,imap,h,u,p,1,\nSAME,imap,h,u,p,1,", 3, 1, "Line 2 has this name"),
        (f'{HEAD}\n"two\nlines",imap,h,u,p,1,\nx,imap,h,u,p,0,', 2, 1, "control character"),
        (f'{HEAD}\n"x"y,imap,h,u,p,1,', 2, 0, "no CSV"),
        ("name,mode,username,colour\nx,imap,u,red", 1, 4, "no field 'colour'"),
        ("name,mode,user_name\nx,imap,u", 1, 3, "Did you mean 'username'?"),
        ("name,mode,username,enabled\nx,imap,u,yes", 1, 4, "Nothing is enabled"),
        ("name,mode\nx,imap", 1, 0, "'username' is missing"),
        (HEAD, 1, 0, "holds no connection"),
        (b"name,mode,username\nx,imap,\xe4", 2, 0, "not UTF-8"),
        ("name,mode,username,credential\nx,google-imap,u,Nobody", 2, 4, "no credential 'Nobody'"),
    ],
    ids=lambda value: str(value)[-30:] if isinstance(value, str) else None,
)
def test_what_is_wrong_is_named_and_nothing_is_added(
    api: Api, text: str | bytes, line: int, column: int, part: str
) -> None:
    before = total(api)
    checked = sent(api, text, dry_run=True).json()
    found = [(one["line"], one["column"]) for one in checked["faults"] if part in one["text"]]
    assert found == [(line, column)], checked["faults"]
    refused = problem(sent(api, text), 409)
    assert refused["faults"] == checked["faults"]
    assert total(api) == before


def test_a_wrong_heading_or_line_hides_nothing_that_is_wrong_elsewhere(api: Api) -> None:
    name = f"Twice {uuid.uuid4().hex[:8]}"
    lines = [
        "name,mode,host,username,password,intervall",
        f"{name},imap,h.invalid,u,p,5",
        "Other,imapp,h.invalid,u,p,5",
        f"{name},imap,,u,p,5",
    ]
    faults = sent(api, "\n".join(lines), dry_run=True).json()["faults"]
    assert [(one["line"], one["heading"]) for one in faults] == [
        (1, "intervall"),
        (3, "mode"),
        (4, "name"),
        (4, "host"),
    ]


def test_a_heading_without_an_end_is_one_fault(api: Api) -> None:
    """Each cell was looked for among those before it, and compared with the name of every field:
    2 MB of commas kept the service busy for minutes, with 450 MB."""
    for heading in ("x," * 3_000, ",".join(f"field {n}" for n in range(3_000))):
        checked = sent(api, f"{heading}\nx,imap,u\n", dry_run=True).json()
        assert checked["fault_count"] == 1, checked["faults"][:3]
        assert checked["faults"][0]["text"].startswith("The line has 3,00")


def test_a_file_that_is_wrong_throughout_is_counted(api: Api) -> None:
    """The first two hundred are named, each once; of the others no more is kept than how many."""
    rows = "".join(f"x{n},imap,h,u,p,99,\n" for n in range(450))
    checked = sent(api, f"{HEAD}\n{rows}", dry_run=True).json()
    assert checked["fault_count"] == 450
    assert [one["line"] for one in checked["faults"]] == list(range(2, 202))


def test_a_taken_name_is_found_whatever_its_case(api: Api) -> None:
    made = api.create(name=f"Taken {uuid.uuid4().hex}")
    text = f"{HEAD}\n{made['name'].upper()},imap,h,u,p,1,"
    (fault,) = sent(api, text, dry_run=True).json()["faults"]
    assert (fault["line"], fault["column"], fault["text"]) == (2, 1, "This name is taken.")


def test_the_command_says_line_and_column(api: Api, posthouse: Posthouse, tmp_path: Path) -> None:
    mark = uuid.uuid4().hex[:8]
    file = tmp_path / "list.csv"
    file.write_text(f"{HEAD}\n{mark},imap,h,u,p,99,\n")
    wrong = posthouse("connections", "import", str(file))
    assert wrong.code == 1
    assert "line 2, column 6 (interval_minutes): " in wrong.out
    file.write_text(f"{HEAD}\n{mark},imap,h,u,p,9,\n")
    dry = posthouse("connections", "import", str(file), "--dry-run")
    assert (dry.code, "1 connection would be added" in dry.out) == (0, True)
    assert posthouse("connections", "import", str(file), "--json").json["done"] is True
    assert api.http.get("connections", params={"q": mark}).json()["total"] == 1
