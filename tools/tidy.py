"""House rules that no other tool checks: sizes, forbidden words, dead modules, traces of machines in tracked files.

Prints one line for each breach and exits 1 if there is any. Generated code (`dwd/pb`) is exempt from all but the last.
"""

from __future__ import annotations

import ast
import io
import re
import subprocess
import sys
import tokenize
from collections.abc import Iterable, Iterator
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
PRODUCT = ("dwd", "dwctl")
GENERATED = "dwd/pb"
MODULE_LINES_MAX = 400
FUNCTION_LINES_MAX = 60
TEXT_BYTES_MAX = 2_000_000
"""Larger tracked files are data, and not searched."""

ENTRY_POINTS = frozenset({"dwd.node.cli", "dwctl.main"})
"""Modules that pyproject.toml names; nothing imports them."""
FOR_TESTS = "testing_"
"""Modules called so hold the twins of ports: tests are their users, and count as such."""
PRINTING = ("dwctl/output.py", "dwd/node/cli")
"""Where printing is the job."""

# Put together from pieces, so that this file and its test do not match themselves.
UNFINISHED = re.compile(r"\b(" + "|".join(("TO" + "DO", "FIX" + "ME", "XX" + "X", "HA" + "CK")) + r")\b")
TRACES = re.compile(
    "|".join(
        (
            r"https?://[^\s\"'>)]*/" + "simple/",
            r"--(?:extra-)?index-url[ =]\s*\S",
            "files." + "pythonhosted",
            "pypi" + r"\.org",
            "registry." + r"npmjs",
            r"/work/" + r"[a-z.]",
            r"/home/" + r"[a-z]",
            r"/root/" + r"[\w.]",
            "py" + r"env/versions",
        )
    )
)


def main() -> None:
    breaches = sorted(found(ROOT, tracked(ROOT)))
    for breach in breaches:
        print(breach)
    if breaches:
        sys.exit(f"tidy: {len(breaches)} found")


def tracked(root: Path) -> list[str]:
    """Files that are, or are about to be, in the repository."""
    command = ["git", "-C", str(root), "ls-files", "--cached", "--others", "--exclude-standard"]
    names = subprocess.run(command, check=True, capture_output=True, text=True).stdout.splitlines()
    return [name for name in names if (root / name).is_file()]


def found(root: Path, names: list[str]) -> Iterator[str]:
    """All breaches in the files `names` of the tree at `root`, as "path:line: what"."""
    trees: dict[str, ast.Module] = {}
    for name in names:
        content = (root / name).read_bytes()
        if len(content) > TEXT_BYTES_MAX or b"\0" in content[:1024]:
            continue
        text = content.decode(errors="replace")
        yield from traces(name, text)
        if name.endswith(".py") and not name.startswith(f"{GENERATED}/"):
            try:
                trees[name] = ast.parse(text)
            except SyntaxError as error:
                yield f"{name}:{error.lineno or 1}: does not parse: {error.msg}"
                continue
            if name.split("/")[0] in PRODUCT:
                yield from product_rules(name, text, trees[name])
    yield from dead_modules(trees)


def traces(name: str, text: str) -> Iterator[str]:
    """Addresses of package registries and paths of somebody's machine."""
    for number, line in enumerate(text.splitlines(), start=1):
        if match := TRACES.search(line):
            yield f"{name}:{number}: names a registry or a machine's path: {match.group(0)!r}"


def product_rules(name: str, text: str, tree: ast.Module) -> Iterator[str]:
    """What holds in the product's own code."""
    lines = text.count("\n")
    if lines > MODULE_LINES_MAX:
        yield f"{name}:1: {lines} lines, at most {MODULE_LINES_MAX}: split it by message, verb or phase"
    if Path(name).name == "__init__.py":
        yield from docstring_only(name, tree)
    elif ast.get_docstring(tree) is None:
        yield f"{name}:1: no module docstring"
    for node in ast.walk(tree):
        match node:
            case ast.FunctionDef() | ast.AsyncFunctionDef():
                length = (node.end_lineno or node.lineno) - node.lineno + 1
                if length > FUNCTION_LINES_MAX:
                    yield f"{name}:{node.lineno}: {node.name} has {length} lines, at most {FUNCTION_LINES_MAX}"
            case ast.Assert():
                yield f"{name}:{node.lineno}: bare assert: raise InvariantViolation"
            case ast.Call(func=ast.Name(id="print")) if not name.startswith(PRINTING):
                yield f"{name}:{node.lineno}: print"
            case ast.Raise(exc=ast.Name(id="NotImplementedError") | ast.Call(func=ast.Name(id="NotImplementedError"))):
                yield f"{name}:{node.lineno}: not implemented"
            case _:
                pass
    yield from unfinished(name, text)


def docstring_only(name: str, tree: ast.Module) -> Iterator[str]:
    if len(tree.body) != 1 or ast.get_docstring(tree) is None:
        yield f"{name}:1: a package's __init__ holds a docstring and nothing else"


def unfinished(name: str, text: str) -> Iterator[str]:
    """Words in comments and docstrings that mark something left undone."""
    for token in tokenize.generate_tokens(io.StringIO(text).readline):
        if token.type in {tokenize.COMMENT, tokenize.STRING} and (match := UNFINISHED.search(token.string)):
            yield f"{name}:{token.start[0]}: {match.group(0)}: do it, or file it as an issue"


def dead_modules(trees: dict[str, ast.Module]) -> Iterator[str]:
    """Modules of dwd and dwctl that nothing in the product imports; those for tests may be imported by tests."""
    by_product: set[str] = set()
    by_all: set[str] = set()
    for name, tree in trees.items():
        names = set(imported(name, tree))
        by_all |= names
        if name.split("/")[0] in PRODUCT:
            by_product |= names
    for name in trees:
        path = Path(name)
        if path.parts[0] not in PRODUCT or path.name in {"__init__.py", "__main__.py"}:
            continue
        users = by_all if path.name.startswith(FOR_TESTS) else by_product
        if module_name(name) not in users | ENTRY_POINTS:
            yield f"{name}:1: nothing imports it"


def imported(name: str, tree: ast.Module) -> Iterator[str]:
    """Full names of what a module imports: for `from a.b import c` both a.b and a.b.c, since c may be a module."""
    package = module_name(name).split(".")
    if Path(name).name != "__init__.py":
        package = package[:-1]
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = ".".join((*package[: len(package) - node.level + 1], *filter(None, [node.module])))
            base = base if node.level else node.module or ""
            yield base
            yield from (f"{base}.{alias.name}" for alias in node.names)
        elif isinstance(node, ast.Constant) and isinstance(node.value, str) and lazily_named(node.value):
            yield node.value.split(":")[0]


def lazily_named(text: str) -> bool:
    """Whether a string looks like a module given to importlib, alone or as "module:function"."""
    return re.fullmatch(r"(dwd|dwctl)(\.[a-z_][a-z0-9_]*)+(:[a-z_]+)?", text) is not None


def module_name(name: str) -> str:
    parts: Iterable[str] = Path(name).with_suffix("").parts
    return ".".join(part for part in parts if part != "__init__")


if __name__ == "__main__":
    main()
