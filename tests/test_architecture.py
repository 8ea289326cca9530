"""What the import-linter does not see: imports by name of a module, and tests that import each other."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import gpudrift

PACKAGE = Path(gpudrift.__file__).parent
TESTS = Path(__file__).parent
MODULE = re.compile(r"gpudrift(\.[a-z_]+)*\.?")
BY_NAME = {
    "__init__.py",  # public names, imported when they are used
    "backends/__init__.py",  # backends, which load CuPy and Numba
}


def strings(tree: ast.Module) -> Iterator[str]:
    """All strings of a module, parts of f-strings included, without docstrings."""
    docs = {id(node.value) for node in ast.walk(tree) if isinstance(node, ast.Expr)}
    for node in ast.walk(tree):
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in docs:
            yield node.value


def names_a_module(text: str) -> bool:
    """Whether a string is the name of a module of the package, or begins one as f-strings do."""
    if not MODULE.fullmatch(text) or "." not in text:
        return False
    path = PACKAGE.parent.joinpath(*text.rstrip(".").split("."))
    return path.is_dir() or path.with_suffix(".py").is_file()


def test_modules_are_imported_by_name_only_where_the_linter_knows_it():
    found = {
        path.relative_to(PACKAGE).as_posix()
        for path in PACKAGE.rglob("*.py")
        if any(map(names_a_module, strings(ast.parse(path.read_text("utf-8")))))
    }
    assert found == BY_NAME


def test_no_test_imports_another():
    tests = {path.stem for path in TESTS.rglob("test_*.py")}
    assert "test_architecture" in tests
    for path in TESTS.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text("utf-8"))):
            names = [one.name for one in node.names] if isinstance(node, ast.Import | ast.ImportFrom) else []
            names += [node.module or ""] if isinstance(node, ast.ImportFrom) else []
            imported = {step for name in names for step in name.split(".")}
            assert not imported & tests, f"{path.relative_to(TESTS)} imports a test"
