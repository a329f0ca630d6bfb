"""Rules for the package's source: folders, imports, sizes, and the tags of docs/WIRE.md."""

import ast
import doctest
import importlib
import pkgutil
import re
from collections import Counter
from pathlib import Path
from typing import Dict, Iterator, List, Set, Tuple

import drpipe
from drpipe.protocol import tags

PACKAGE = Path(__file__).resolve().parents[1] / "src" / "drpipe"
TESTS = PACKAGE.parents[1] / "tests"
WIRE = PACKAGE.parents[2] / "docs" / "WIRE.md"
#: Each folder uses only itself and those before it.
FOLDERS = ["protocol", "api", "worker", "driving", "pool"]
#: The files beside the folders: the public names, and stable names of modules.
TOP = ["__init__", "errors", "failures", "results"]


def modules() -> Dict[str, ast.Module]:
    """Returns every module of the package by its name, such as "api.frames"."""
    files = sorted(PACKAGE.rglob("*.py"))
    assert len(files) > 40, "the sources were not found"
    names = [".".join(file.relative_to(PACKAGE).with_suffix("").parts) for file in files]
    return {name: ast.parse(file.read_text()) for name, file in zip(names, files)}


def imported(name: str, tree: ast.Module, known: Set[str]) -> Iterator[str]:
    """Yields the modules of the package that a module imports, in functions and for types, too."""
    folder = name.split(".")[:-1]
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            assert not any(one.name.split(".")[0] == "drpipe" for one in node.names), name
        if not isinstance(node, ast.ImportFrom) or node.level == 0:
            continue
        base = folder[: len(folder) - node.level + 1]
        base += node.module.split(".") if node.module else []
        for one in node.names:
            inner = ".".join([*base, one.name])
            yield inner if inner in known else ".".join(base)


def arrows() -> Dict[str, Set[str]]:
    """Returns what each module imports."""
    trees = modules()
    return {name: set(imported(name, tree, set(trees))) for name, tree in trees.items()}


def layer(module: str) -> int:
    """Returns the number of a module's folder."""
    folder, _, inner = module.partition(".")
    if not inner:
        assert folder in TOP, f"{module} belongs into a folder"
        return len(FOLDERS)
    return FOLDERS.index(folder)


def circles(graph: Dict[str, Set[str]]) -> List[List[str]]:
    """Returns the circles that a depth-first search meets."""
    found: List[List[str]] = []
    done: Set[str] = set()

    def visit(module: str, way: List[str]) -> None:
        if module in way:
            found.append([*way[way.index(module) :], module])
        elif module not in done:
            for other in sorted(graph[module]):
                visit(other, [*way, module])
            done.add(module)

    for module in graph:
        visit(module, [])
    return found


def test_each_folder_uses_only_those_before_it():
    wrong = [
        f"{module} imports {other}"
        for module, others in arrows().items()
        for other in sorted(others)
        if layer(other) > layer(module)
    ]
    assert not wrong


def test_there_is_no_circle():
    assert not circles(arrows())
    assert circles({"a": {"b"}, "b": {"c"}, "c": {"a"}, "d": {"a"}}) == [["a", "b", "c", "a"]]


def test_a_folder_has_at_most_20_files():
    files = [*PACKAGE.rglob("*.py"), *TESTS.rglob("*.py")]
    counts = Counter(file.parent for file in files)
    assert {PACKAGE / folder for folder in FOLDERS} | {PACKAGE, TESTS} <= set(counts)
    assert not {folder: count for folder, count in counts.items() if count > 20}


def test_a_file_has_at_most_500_lines():
    files = [*PACKAGE.rglob("*.py"), *TESTS.rglob("*.py")]
    lengths = {file.name: len(file.read_text().splitlines()) for file in files}
    assert not {name: length for name, length in lengths.items() if length > 500}


def functions(tree: ast.Module) -> Iterator[Tuple[str, int]]:
    """Yields the functions of a module with the number of their lines, without the docstring."""
    for node in ast.walk(tree):
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)):
            first = node.body[0]
            is_text = isinstance(first, ast.Expr) and isinstance(first.value, ast.Constant)
            doc = first.end_lineno - first.lineno + 1 if is_text else 0
            yield node.name, node.end_lineno - node.lineno + 1 - doc


def test_a_function_has_at_most_60_lines():
    lengths = [
        (f"{module}.{name}", length)
        for module, tree in modules().items()
        for name, length in functions(tree)
    ]
    assert len(lengths) > 400
    assert not [found for found in lengths if found[1] > 60]


def tags_of_wire() -> Dict[str, int]:
    """Returns the numbers that WIRE.md gives, by the names of their tags."""
    text = WIRE.read_text()
    found = re.findall(r"^\| ([A-Z_]+) \| (0x[0-9A-F]+|\d+) \|", text, re.MULTILINE)
    found += [(name, number) for number, name in re.findall(r"(0x[0-9A-F]+) \(([A-Z_]+)\)", text)]
    return {name: int(number, 0) for name, number in found}


def test_tags_are_those_of_the_document():
    assert {name: value for name, value in vars(tags).items() if name.isupper()} == tags_of_wire()


def test_the_examples_of_docstrings_run():
    attempted = 0
    for found in pkgutil.walk_packages(drpipe.__path__, "drpipe."):
        result = doctest.testmod(importlib.import_module(found.name))
        assert not result.failed, found.name
        attempted += result.attempted
    assert attempted > 10
