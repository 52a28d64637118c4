"""Counts what the tables of docs/adr tell of the code: `python docs/counts.py`.

Of the modules of the product (`cli`, `services`, `shared`, `sdk/src`), and of a run: which modules
of the fetcher it passes, and how often each is entered. The rule: beginning with
`run_phases.fetch`, every call is followed, in the order of the text and each once, to functions of
other modules that are given the run, a batch of it (`Ready`), or are methods of a class that was. A
call from one module into another one is an entry; coming back is none. What `Run` offers itself is
not counted.
"""

from __future__ import annotations

import ast
import re
import statistics
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Final, NamedTuple

ROOT: Final = Path(__file__).parent.parent
PRODUCT: Final = ("cli", "services", "shared", "sdk/src")
FETCHER: Final = ROOT / "services/fetcher"
#: Parameters by which a function is given a run.
RUN: Final = {"run", "ready", "batches"}
LONG_FUNCTION: Final = 50
LONG_MODULE: Final = 300

FunctionNode = ast.FunctionDef | ast.AsyncFunctionDef


class Function(NamedTuple):
    """A function of the fetcher; `owner` is its class, empty where it has none."""

    module: str
    owner: str
    name: str


def sources() -> dict[Path, str]:
    paths = (path for folder in PRODUCT for path in (ROOT / folder).rglob("*.py"))
    return {path: path.read_text() for path in sorted(paths)}


def functions(tree: ast.AST) -> Iterator[FunctionNode]:
    return (node for node in ast.walk(tree) if isinstance(node, FunctionNode))


def public(body: list[ast.stmt]) -> Iterator[FunctionNode]:
    """Functions, and methods of classes, whose names begin with no underscore."""
    for node in body:
        if isinstance(node, FunctionNode) and not node.name.startswith("_"):
            yield node
        elif isinstance(node, ast.ClassDef) and not node.name.startswith("_"):
            yield from public(node.body)


def is_broad(handler: ast.ExceptHandler) -> bool:
    names = {n.id for n in ast.walk(handler.type) if isinstance(n, ast.Name)} if handler.type else {
        "BaseException"
    }  # fmt: skip
    return bool(names & {"Exception", "BaseException"})


def of_modules(found: Mapping[Path, str]) -> Iterator[str]:
    lines = [text.count("\n") for text in found.values()]
    trees = [ast.parse(text) for text in found.values()]
    lengths = sorted(
        (node.end_lineno or 0) - node.lineno + 1 for tree in trees for node in functions(tree)
    )
    known = [node for tree in trees for node in public(tree.body)]
    silent = sum(ast.get_docstring(node) is None for node in known)
    text = "\n".join(found.values())
    broad = sum(
        isinstance(node, ast.ExceptHandler) and is_broad(node)
        for tree in trees
        for node in ast.walk(tree)
    )
    yield f"lines: {sum(lines)}"
    yield (
        f"modules: {len(lines)}; median {statistics.median(lines):g}, longest {max(lines)}, "
        f"over {LONG_MODULE} lines {sum(n > LONG_MODULE for n in lines)}"
    )
    yield (
        f"functions: {len(lengths)}; median {statistics.median(lengths):g}, "
        f"99th of a hundred {lengths[len(lengths) * 99 // 100]}, "
        f"over {LONG_FUNCTION} lines {sum(n > LONG_FUNCTION for n in lengths)}, "
        f"longest {lengths[-1]}"
    )
    yield f"public functions: {len(known)}, without a docstring {silent}"
    thousands = sum(lines) / 1000
    yield f"type: ignore in 1,000 lines: {text.count('type: ignore') / thousands:.1f}"
    untyped = len(re.findall(r"\bAny\b", text))
    yield f"Any in 1,000 lines: {untyped / thousands:.1f}"
    yield f"except Exception or BaseException: {broad}"
    modules = [*(ROOT / "services").rglob("*.py")]
    yield f"files of services: {sum(path.stat().st_size > 0 for path in modules)}"
    flat = [path for path in (ROOT / "shared/mailbox").glob("*.py") if path.stem != "__init__"]
    yield f"modules in shared/mailbox beside the packages: {len(flat)}"
    begin = [str(p.relative_to(ROOT)) for p, one in found.items() if ".begin_runs(" in one]
    yield f"what calls begin_runs: {', '.join(begin)}"


class Entries:
    """Follows a run through the modules of the fetcher: `found` has (module, function)."""

    def __init__(self) -> None:
        self.found: list[tuple[str, str]] = []
        self._functions: dict[Function, FunctionNode] = {}
        self._imports: dict[str, dict[str, tuple[str, str]]] = {}
        self._followed: set[Function] = set()
        self._under_way: list[Function] = []
        for path in FETCHER.glob("*.py"):
            self._read(path.stem, ast.parse(path.read_text()))

    def _read(self, module: str, tree: ast.Module) -> None:
        for node in tree.body:
            if isinstance(node, FunctionNode):
                self._functions[Function(module, "", node.name)] = node
            elif isinstance(node, ast.ClassDef):
                for inner in node.body:
                    if isinstance(inner, FunctionNode):
                        self._functions[Function(module, node.name, inner.name)] = inner
        self._imports[module] = {
            alias.asname or alias.name: (node.module.rpartition(".")[2], alias.name)
            for node in ast.walk(tree)
            if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("services.fetch")
            for alias in node.names
            if node.module is not None
        }

    def follow(self, function: Function, caller: str = "") -> None:
        node = self._functions.get(function)
        if node is None or function in self._under_way or not self._is_given(function, node):
            return
        if function.module != caller:
            self._enter(function)
        elif function.name in ("_keep", "_alone", "_together") and function in self._followed:
            return  # one batch takes one of these ways
        self._followed.add(function)
        self._under_way.append(function)
        for statement in node.body:
            self._expression(statement, function)
        self._under_way.pop()

    def _enter(self, function: Function) -> None:
        last = self.found[-1] if self.found else ("", "")
        shown = f"{function.owner}." if function.owner else ""
        if not (shown and last[0] == function.module and last[1].startswith(shown)):
            self.found.append((function.module, shown + function.name))

    def _is_given(self, function: Function, node: FunctionNode) -> bool:
        if function.module == "run":
            return False
        made = self._functions.get(Function(function.module, function.owner, "__init__"))
        return any(
            argument.arg in RUN
            for one in (node, made)
            if one is not None
            for argument in one.args.args
        )

    def _expression(self, node: ast.AST, here: Function) -> None:
        for child in ast.iter_child_nodes(node):
            self._expression(child, here)
        if isinstance(node, ast.Call):
            called = self._called(node.func, here)
            if called is not None:
                self.follow(called, here.module)
        elif self._is_own(node) and isinstance(node, ast.Attribute):
            # A property, or a method that is handed on.
            self.follow(Function(here.module, here.owner, node.attr), here.module)

    @staticmethod
    def _is_own(node: ast.AST) -> bool:
        return (
            isinstance(node, ast.Attribute)
            and isinstance(node.value, ast.Name)
            and node.value.id == "self"
        )

    def _called(self, called: ast.expr, here: Function) -> Function | None:
        if isinstance(called, ast.Name):
            module, name = self._imports[here.module].get(called.id, (here.module, called.id))
            made = Function(module, name, "__init__")
            return made if made in self._functions else Function(module, "", name)
        if not isinstance(called, ast.Attribute):
            return None
        if called.attr == "commits":  # `Tools.commits`, which is that of `new_combiner`
            return Function("committing", "", "_keep")
        if isinstance(called.value, ast.Name) and called.value.id in self._imports[here.module]:
            return Function(self._imports[here.module][called.value.id][1], "", called.attr)
        if isinstance(called.value, ast.Call):
            maker = self._called(called.value.func, here)
            if maker is not None and maker.owner:
                return maker._replace(name=called.attr)
        return None


def main() -> None:
    lines = [*of_modules(sources())]
    entries = Entries()
    entries.follow(Function("run_phases", "", "fetch"))
    modules = dict.fromkeys(module for module, _ in entries.found)
    lines.append(f"a run passes {len(modules)} modules in {len(entries.found)} entries:")
    lines += [f"  {module}: {function}" for module, function in entries.found]
    sys.stdout.write("\n".join(lines) + "\n")


if __name__ == "__main__":
    main()
