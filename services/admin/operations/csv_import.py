"""Connections from a CSV file (RFC 4180): checked whole, then added whole.

Each heading is a field of a connection; credentials and certificates are given by name. Nothing is
added while anything is wrong anywhere, and what is added starts disabled.
"""

from __future__ import annotations

import csv
import io
import unicodedata
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from difflib import get_close_matches
from typing import Any, Final

from services.admin.context import Context
from services.admin.operations.credentials import refuse_misfit
from services.admin.operations.drafts import checked_edit
from services.admin.operations.tag_rights import refuse_beyond
from shared.connection_editing import FIELDS, SECRET_FIELDS, ConnectionEdit
from shared.errors import Conflict, InvalidInput
from shared.microsoft_certificates import pem_of
from shared.quantities import counted
from shared.storage import certificates, connections, credentials
from shared.storage.list_search import folded
from shared.storage.pool import Session
from shared.vault import login_certificate_path, password_path

MOST_ROWS: Final = 5_000
#: Told at once; the rest of a file that is wrong throughout is counted.
MOST_FAULTS: Final = 200
#: Cells of the first line that are looked at: several times what there are fields.
_MOST_HEADINGS: Final = 100
#: Headings that stand for ids of things with names.
_NAMED: Final = {"credential": "credential_id", "certificates": "certificate_ids"}
HEADINGS: Final = (
    *(name for name in FIELDS if name not in ("enabled", *_NAMED.values())),
    *_NAMED,
)
#: What spreadsheets take for a formula when somebody opens the file, or an export of it, again.
_FORMULA: Final = ("=", "+", "-", "@", "\t", "\r")


@dataclass(frozen=True, slots=True, order=True)
class RowFault:
    """What is wrong: `line` of the file, `column` (0: the line itself), both counted from
    1; `heading` names the column."""

    line: int
    column: int
    heading: str
    text: str
    hint: str = ""


@dataclass(frozen=True, slots=True)
class ImportedRow:
    """A connection that would be, or was, added."""

    line: int
    name: str
    mode: str
    username: str
    host: str


@dataclass(frozen=True, slots=True)
class Imported:
    """`faults` are at most MOST_FAULTS of `fault_count`; nothing was added where there is one."""

    rows: tuple[ImportedRow, ...]
    faults: tuple[RowFault, ...]
    fault_count: int
    done: bool


class ImportRefused(Conflict):
    """Something in the file is wrong, so nothing was added."""

    code = "import-refused"

    def __init__(self, found: Imported) -> None:
        super().__init__(
            f"{counted(found.fault_count, 'thing is', 'things are')} wrong with the file: "
            "nothing was added.",
            hint="`faults` names line and column of each.",
        )
        self.found = found
        self.members = {
            "faults": [
                {name: getattr(one, name) for name in RowFault.__slots__} for one in found.faults
            ]
        }


def import_connections(ctx: Context, content: bytes, *, dry_run: bool) -> Imported:
    """Checks the file, and adds its connections in one transaction unless it is a `dry_run`.

    Raises ImportRefused where something is wrong and it is none.
    """
    with ctx.transaction() as session:
        sheet = _Sheet(ctx, session)
        found = list(sheet.read(content))
        faults = sorted(sheet.faults)
        rows = tuple(
            ImportedRow(line, c.name, c.mode, c.username, c.host)
            for line, c in ((line, edit.connection) for line, edit in found)
        )
        result = Imported(rows, tuple(faults), sheet.fault_count, not (faults or dry_run))
        if result.done:
            for _, edit in found:
                _add(ctx, session, edit)
    if faults and not dry_run:
        raise ImportRefused(result)
    return result


class _Sheet:
    """One file, checked against what is there."""

    def __init__(self, ctx: Context, session: Session) -> None:
        self._ctx = ctx
        self._session = session
        self._names = {folded(name): 0 for name in connections.names(session).values()}
        # Who has rights by tag gives neither, and does not learn which there are.
        all_of_them: Mapping[str, Mapping[str, int]] = {
            "credential": {folded(c.name): c.id for c in credentials.search(session)},
            "certificates": {
                folded(name): number for number, name in certificates.names(session).items()
            },
        }
        self._ids = {} if ctx.principal.tags else all_of_them
        #: The first MOST_FAULTS, and how many there are: a file may be wrong a million times.
        self.faults: list[RowFault] = []
        self.fault_count = 0
        self._of_line: set[RowFault] = set()
        #: Whether the heading is wrong: what a line lacks may stand under a heading that is.
        self._is_misheaded = False

    def read(self, content: bytes) -> Iterator[tuple[int, ConnectionEdit]]:
        """Each line as a connection; what is wrong goes to `faults`."""
        try:
            text = content.decode("utf-8-sig")
        except UnicodeDecodeError as error:
            line = content.count(b"\n", 0, error.start) + 1
            column = error.start - content.rfind(b"\n", 0, error.start)
            hint = "In Excel, save it as “CSV UTF-8”."
            self._fault(line, 0, "", f"The file is not UTF-8, at octet {column}.", hint)
            return
        lines = csv.reader(io.StringIO(text, newline=""), delimiter=_delimiter(text), strict=True)
        headings: list[str] | None = None
        start = 1
        count = 0
        try:
            for cells in lines:
                line, start = start, lines.line_num + 1
                if not any(cell.strip() for cell in cells):
                    continue
                if headings is None:
                    headings = self._headings(line, cells)
                    self._is_misheaded = bool(self.faults)
                    if not headings:
                        return
                    continue
                count += 1
                if count > MOST_ROWS:
                    self._fault(line, 0, "", f"A file has at most {MOST_ROWS:,} connections.")
                    return
                edit = self._row(line, headings, cells)
                if edit is not None:
                    yield line, edit
        except csv.Error as error:
            self._fault(start, 0, "", f"This is no CSV: {error}.", "Quotes in a cell are doubled.")
            return
        if not count:
            self._fault(1, 0, "", "The file holds no connection.", _KNOWN)

    def _headings(self, line: int, cells: Sequence[str]) -> list[str]:
        if len(cells) > _MOST_HEADINGS:
            text = f"The line has {len(cells):,} cells, and a connection {len(HEADINGS)} fields."
            self._fault(line, 0, "", text, _KNOWN)
            return []
        found = [cell.strip().casefold().replace(" ", "_") for cell in cells]
        for at, heading in enumerate(found, 1):
            if heading == "enabled":
                hint = "What is imported starts disabled: leave it out, and enable them together."
                self._fault(line, at, heading, "Nothing is enabled by a file.", hint)
            elif heading not in HEADINGS:
                near = get_close_matches(heading, HEADINGS, 1)
                meant = f" Did you mean {near[0]!r}?" if near else ""
                self._fault(line, at, heading, f"There is no field {heading!r}.{meant}", _KNOWN)
            elif heading in found[: at - 1]:
                self._fault(line, at, heading, f"{heading!r} stands twice.")
        for needed in ("name", "mode", "username"):
            if needed not in found:
                self._fault(line, 0, needed, f"The column {needed!r} is missing.", _KNOWN)
        return found

    def _row(
        self, line: int, headings: Sequence[str], cells: Sequence[str]
    ) -> ConnectionEdit | None:
        before = self.fault_count
        if len(cells) > len(headings):
            text = f"The line has {len(cells)} cells, the heading {len(headings)}."
            self._fault(line, len(headings) + 1, "", text, "A comma in a cell needs quotes.")
        changes: dict[str, Any] = {}
        told: set[str] = set()  # headings of which nothing follows any more
        for at, (heading, cell) in enumerate(zip(headings, cells, strict=False), 1):
            if not cell.strip() or heading not in HEADINGS:
                continue
            if heading not in SECRET_FIELDS and _begins_as_formula(heading, cell):
                hint = "Begin it with another character: a spreadsheet would run it."
                self._fault(line, at, heading, f"{cell[:40]!r} begins like a formula.", hint)
                told.add(heading)
                continue
            try:
                changes[_NAMED.get(heading, heading)] = self._value(heading, cell)
            except InvalidInput as error:
                self._fault(line, at, heading, str(error), error.hint)
                told.add(heading)
        name_at = headings.index("name") + 1 if "name" in headings else 0
        self._name(line, name_at, str(changes.get("name", "")))
        if "mode" not in headings or "username" not in headings:
            return None  # told of the heading, and not again of each line
        try:
            edit = checked_edit(None, changes)
            refuse_beyond(self._ctx, None, edit.connection)  # first: the other one names things
            refuse_misfit(self._session, edit.connection)
        except InvalidInput as error:
            for one in (error, *error.more):
                heading = next((n for n, f in _NAMED.items() if f == one.field), one.field)
                if heading in told or (self._is_misheaded and heading not in headings):
                    continue
                at = headings.index(heading) + 1 if heading in headings else 0
                self._fault(line, at, heading, str(one), one.hint)
            return None
        return None if self.fault_count > before else edit

    def _name(self, line: int, column: int, given: str) -> None:
        """A name may stand once, also in a line that is wrong in something else."""
        name = folded(given.strip())
        if not name:
            return
        if name in self._names:
            other = self._names[name]
            text = f"Line {other} has this name, too." if other else "This name is taken."
            self._fault(line, column, "name", text)
            return
        self._names[name] = line

    def _value(self, heading: str, cell: str) -> Any:
        if heading in _NAMED:
            names = [one.strip() for one in cell.split(",") if one.strip()]
            known = self._ids.get(heading, {})
            missing = next((one for one in names if folded(one) not in known), None)
            if missing is not None:
                raise InvalidInput(f"There is no {heading.removesuffix('s')} {missing!r}.")
            ids = [known[folded(one)] for one in names]
            return ids if heading == "certificates" else ids[0]
        kind = FIELDS[heading].kind
        if kind is int:
            text = cell.strip()
            return int(text) if text.isascii() and text.isdecimal() and len(text) < 12 else text
        if kind is bool:
            word = cell.strip().casefold()
            return {
                "true": True,
                "yes": True,
                "1": True,
                "false": False,
                "no": False,
                "0": False,
            }.get(word, word)
        if kind is tuple:
            return [one for one in (part.strip() for part in cell.split(",")) if one]
        return cell

    def _fault(self, line: int, column: int, heading: str, text: str, hint: str = "") -> None:
        fault = RowFault(line, column, heading, text, hint)
        if all(one.line != line for one in self._of_line):
            self._of_line.clear()
        if fault in self._of_line:
            return
        self._of_line.add(fault)
        self.fault_count += 1
        if len(self.faults) < MOST_FAULTS:
            self.faults.append(fault)


_KNOWN: Final = f"The first line names fields: {', '.join(HEADINGS)}."


def _begins_as_formula(heading: str, cell: str) -> bool:
    """As it is, as it will be kept (without spaces around it, a list item by item), or to a
    spreadsheet that takes the wide forms of East Asia for the same characters."""
    if cell.strip().startswith("-----BEGIN "):
        return False  # PEM
    is_list = heading in _NAMED or FIELDS[heading].kind is tuple
    items = cell.split(",") if is_list else [cell]
    kept = (unicodedata.normalize("NFKC", item).strip() for item in items)
    return cell.startswith(_FORMULA) or any(item.startswith(_FORMULA) for item in kept)


def _delimiter(text: str) -> str:
    """Of the heading, whose fields hold none of them: `;` where Excel's language has a decimal
    comma."""
    first = next((line for line in text.splitlines() if line.strip()), "")
    return max(",;\t", key=first.count)


def _add(ctx: Context, session: Session, edit: ConnectionEdit) -> None:
    vault = ctx.app_state.vault
    number = connections.insert(session, replace(edit.connection, enabled=False))
    if edit.password:
        sealed = vault.seal(edit.password.encode(), password_path(number))
        connections.write_password(session, number, sealed)
    if edit.client_certificate:
        pem = pem_of(edit.client_certificate).encode()
        sealed = vault.seal(pem, login_certificate_path(number))
        connections.write_client_certificate(session, number, sealed)
    saved = connections.get(session, number)
    ctx.record(session, "import", f"connection/{number}", after=saved)
