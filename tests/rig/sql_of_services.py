"""Which SQL the code of a service can come to, and which rights in Postgres that takes.

Read from the code: what a service's modules name, and what that names in turn. A class counts as a
whole, so this says a little more than is needed, never less.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from functools import cache
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
_SQL = ROOT / "shared" / "storage" / "sql"
_NAME = re.compile(r"^-- name: (\w+)$", re.MULTILINE)
_PART = re.compile(r"(?<!\()\{(\w+)\}")
_CTE = re.compile(
    r"(?:WITH|,)\s*(?:RECURSIVE\s+)?(\w+)\s*(?:\([^)]*\))?\s+AS\s+(?:NOT\s+)?(?:MATERIALIZED\s*)?\("
)
_VERBS = {
    "INSERT": re.compile(r"\b(?:INSERT\s+INTO|COPY)\s+(\w+)"),
    "DELETE": re.compile(r"\bDELETE\s+FROM\s+(\w+)"),
    "UPDATE": re.compile(r"(?<!FOR )(?<!KEY )(?<!DO )\bUPDATE\s+(\w+)"),
    "SELECT": re.compile(r"\b(?:FROM|JOIN|USING)\s+(?:ONLY\s+)?(\w+)"),
}
_LIST = re.compile(r"\bFROM\s+(\w+(?:\s+(?:AS\s+)?\w+)?(?:\s*,\s*\w+(?:\s+(?:AS\s+)?\w+)?)+)")
_LOCK = re.compile(r"\bFOR\s+(?:NO\s+KEY\s+)?(?:UPDATE|SHARE|KEY\s+SHARE)")


def statements_of(service: str) -> dict[str, str]:
    """`file.name` → SQL without comments, of all that the service can come to."""
    seen: set[tuple[str, str]] = set()
    waiting = [
        (module, name)
        for module in _trees()
        if module.startswith(f"services.{service}.")
        for name in _definitions(module)
    ]
    found: dict[str, str] = {}
    while waiting:
        module, name = waiting.pop()
        if (module, name) in seen or module not in _trees():
            continue
        seen.add((module, name))
        if name not in _definitions(module):
            onward, original = _imports(module).get(name, ("", ""))
            waiting += [(onward, original)] if original else []
            continue
        for node in _definitions(module)[name]:
            found |= _statements_in(module, node)
            waiting += _names_in(module, node)
    return found


def rights_for(statement: str) -> set[tuple[str, str]]:
    """(table, verb of GRANT) that a statement takes, by its words."""
    text = re.sub(r"'[^']*'", "''", statement)
    named = set(_CTE.findall(text))
    found = {
        (table, verb)
        for verb, pattern in _VERBS.items()
        for table in pattern.findall(text)
        if table not in named
    }
    for several in _LIST.findall(text):
        found |= {(one.split()[0], "SELECT") for one in several.split(",")}
    if "ON CONFLICT" in text:
        verbs = ("SELECT", "UPDATE") if re.search(r"\bDO\s+UPDATE\b", text) else ("SELECT",)
        found |= {(table, verb) for table in _VERBS["INSERT"].findall(text) for verb in verbs}
    return found | {(table, "SELECT") for table, verb in found if verb in ("UPDATE", "DELETE")}


def locks_of(statement: str) -> set[tuple[str, str]]:
    """The right to UPDATE of each table that a statement may lock rows of."""
    if not _LOCK.search(statement):
        return set()
    return {(table, "UPDATE") for table, verb in rights_for(statement) if verb == "SELECT"}


@cache
def _trees() -> dict[str, ast.Module]:
    return {
        ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__"): ast.parse(
            path.read_text(encoding="utf-8")
        )
        for top in ("services", "shared")
        for path in (ROOT / top).rglob("*.py")
    }


@cache
def _imports(module: str) -> dict[str, tuple[str, str]]:
    """Name in the module → (module, name in there, empty for the module itself)."""
    found = {}
    for node in ast.walk(_trees()[module]):
        if isinstance(node, ast.ImportFrom) and node.module:
            for alias in node.names:
                whole = f"{node.module}.{alias.name}"
                target = (whole, "") if whole in _trees() else (node.module, alias.name)
                found[alias.asname or alias.name] = target
    return found


@cache
def _definitions(module: str) -> dict[str, list[ast.stmt]]:
    found: dict[str, list[ast.stmt]] = {}
    for node in _trees()[module].body:
        names = [node.name] if isinstance(node, (ast.FunctionDef, ast.ClassDef)) else []
        if isinstance(node, ast.Assign):
            names = [one.id for one in node.targets if isinstance(one, ast.Name)]
        elif isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name):
            names = [node.target.id]
        for name in names:
            found.setdefault(name, []).append(node)
    return found


def _names_in(module: str, node: ast.AST) -> Iterator[tuple[str, str]]:
    imports = _imports(module)
    # A variable or parameter may have the name of a function beside it, and is another thing.
    own = {one.id for one in ast.walk(node) if isinstance(one, ast.Name) and _is_set(one)}
    own |= {one.arg for one in ast.walk(node) if isinstance(one, ast.arg)}
    for one in ast.walk(node):
        if isinstance(one, ast.Attribute) and isinstance(one.value, ast.Name):
            target, name = imports.get(one.value.id, ("", ""))
            yield target, name or one.attr
        elif isinstance(one, ast.Name) and one.id not in own:
            yield imports.get(one.id) or (module, one.id)


def _is_set(name: ast.Name) -> bool:
    return isinstance(name.ctx, ast.Store)


def _statements_in(module: str, node: ast.AST) -> dict[str, str]:
    """Of `_SQL["name"]` and `_SQL.of("name", …)`; where the name is computed, all of the file."""
    files = _files(module)
    found = {}
    for one in ast.walk(node):
        if isinstance(one, ast.Constant) and isinstance(one.value, str) and " FROM " in one.value:
            found[f"{module}:{one.lineno}"] = one.value
        if isinstance(one, ast.Subscript):
            asked, name_of = one.value, one.slice
        elif isinstance(one, ast.Call) and isinstance(one.func, ast.Attribute) and one.args:
            asked, name_of = one.func.value, one.args[0]  # `_SQL.of(name, count)`
        else:
            continue
        if not isinstance(asked, ast.Name) or asked.id not in files:
            continue
        file, parts = files[asked.id]
        chosen = name_of.value if isinstance(name_of, ast.Constant) else None
        for name, text in _queries(file).items():
            if chosen in (None, name):
                found[f"{file}.{name}"] = _whole(text, file, parts)
    return found


@cache
def _files(module: str) -> dict[str, tuple[str, dict[str, str]]]:
    """Variable → file, and what stands there for `{name}`: `_SQL = Queries("file", name=…)`."""
    found = {}
    for variable, (made, *_) in _definitions(module).items():
        call = made.value if isinstance(made, (ast.Assign, ast.AnnAssign)) else None
        if call is not None and (file := _file_of(call)) is not None:
            assert isinstance(call, ast.Call)
            parts = {one.arg: _part(module, one.value) for one in call.keywords if one.arg}
            found[variable] = (file, {name: text for name, text in parts.items() if text})
    return found


def _file_of(made: ast.expr) -> str | None:
    """The file of `Queries("file")`."""
    if not (isinstance(made, ast.Call) and isinstance(made.func, ast.Name)):
        return None
    given = made.args[0] if made.func.id == "Queries" and made.args else None
    return str(given.value) if isinstance(given, ast.Constant) else None


def _part(module: str, value: ast.expr) -> str:
    """The statement that `Queries("file")["name"]` or `_OTHER["name"]` is; empty of others."""
    if not (isinstance(value, ast.Subscript) and isinstance(value.slice, ast.Constant)):
        return ""
    source: ast.expr | None = value.value
    if isinstance(source, ast.Name):
        (made, *_) = _definitions(module).get(source.id, [None])
        source = made.value if isinstance(made, (ast.Assign, ast.AnnAssign)) else None
    file = None if source is None else _file_of(source)
    return "" if file is None else _queries(file)[str(value.slice.value)]


@cache
def _queries(file: str) -> dict[str, str]:
    parts = _NAME.split((_SQL / f"{file}.sql").read_text(encoding="utf-8"))[1:]
    texts = (re.sub(r"--.*", "", text) for text in parts[1::2])
    return dict(zip(parts[::2], texts, strict=True))


def _whole(text: str, file: str, named: dict[str, str]) -> str:
    """With the statements that it is made of: `{name}`, those that were `named` for it, of its own
    file, or of the ledger's."""
    parts = {**_queries("ledger"), **_queries(file), **named}
    return _PART.sub(lambda match: parts.get(match[1], match[0]), text)
