"""Imported packages are declared in pyproject.toml, and declared packages are imported.

The import name of each declared package is its name with underscores.
"""

from __future__ import annotations

import ast
import re
import sys
import tomllib
from functools import cache
from pathlib import Path
from typing import Any

from test_architecture import MODULES, imports, tree

TOP = Path(__file__).parents[1]
PROJECT = tomllib.loads((TOP / "pyproject.toml").read_text(encoding="utf-8"))
EXTRAS: dict[str, list[str]] = PROJECT["project"]["optional-dependencies"]
GROUPS: dict[str, list[Any]] = PROJECT["dependency-groups"]

# Commands and plugins, which are not imported.
TOOLS = {"mypy", "pyright", "pytest_cov", "pytest_timeout"}


# Starlette loads it to read forms.
LOADED_BY_OTHERS = {"python_multipart"}


WHOLE_EXTRAS = ("llmtasker.api.", "llmtasker.integrations.langchain", "llmtasker.integrations.sklearn", "llmtasker.ui.")


def names(requirements: list[Any]) -> set[str]:
    """Return the import names of requirements; groups and extras that they refer to are counted where they stand.

    >>> sorted(names(["json-repair>=0.64,<1", "pyright[nodejs]", "llmtasker[data]", {"include-group": "types"}]))
    ['json_repair', 'pyright']
    """
    packages = {re.split(r"[^\w.-]", text, maxsplit=1)[0] for text in requirements if isinstance(text, str)}
    found = {name.replace("-", "_").lower() for name in packages} - {"llmtasker"}
    found = {"opentelemetry" if name.startswith("opentelemetry_") else name for name in found}
    names_of_imports = {"scikit_learn": "sklearn", "pyyaml": "yaml"}
    return {names_of_imports.get(name, name) for name in found}


def outside(module: str) -> set[str]:
    """The packages that a module of ours imports, anywhere in it."""
    return {name.partition(".")[0] for name in imports(module)} - {*sys.stdlib_module_names, "llmtasker"}


REQUIRED = names(PROJECT["project"]["dependencies"])
OPTIONAL = set[str]().union(*map(names, EXTRAS.values()))
IMPORTED = set[str]().union(*map(outside, MODULES))


def test_what_the_package_imports_is_declared() -> None:
    undeclared = IMPORTED - REQUIRED - OPTIONAL
    assert not undeclared, "add these to pyproject.toml: dependencies, or the extra of the feature"


def test_what_is_declared_is_imported() -> None:
    unused = (REQUIRED | OPTIONAL) - IMPORTED - LOADED_BY_OTHERS
    assert not unused, "nothing imports these: remove them from pyproject.toml"


def test_a_package_is_either_required_or_optional() -> None:
    assert not REQUIRED & OPTIONAL


def test_importing_the_package_needs_no_extra() -> None:
    nodes = [(module, node) for module in MODULES for node in tree(module).body]
    found = {(module, alias.name) for module, node in nodes if isinstance(node, ast.Import) for alias in node.names}
    found |= {(module, node.module or "") for module, node in nodes if isinstance(node, ast.ImportFrom)}
    # A folder that is an extra as a whole is imported inside functions.
    wrong = {
        f"{module} imports {name}"
        for module, name in found
        if name.partition(".")[0] in OPTIONAL or name.startswith(WHOLE_EXTRAS)
        if not f"llmtasker.{module}".startswith(WHOLE_EXTRAS)
    }
    assert not wrong, "import it inside the function that needs it"


@cache
def of_tests() -> set[str]:
    """The packages that the tests import, `import_module` included."""
    files = sorted((TOP / "tests").rglob("*.py"))
    own = {path.stem for path in files} | {"llmtasker"}
    nodes = [node for path in files for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))]
    found = {alias.name for node in nodes if isinstance(node, ast.Import) for alias in node.names}
    found |= {node.module or "" for node in nodes if isinstance(node, ast.ImportFrom)}
    return {name.partition(".")[0] for name in found} - sys.stdlib_module_names - own


def test_what_the_tests_import_is_declared() -> None:
    declared = REQUIRED | OPTIONAL | names([one for group in GROUPS.values() for one in group])
    undeclared = of_tests() - declared
    assert not undeclared, "add these to a group in pyproject.toml"
    unused = names(GROUPS["test"]) - of_tests() - TOOLS
    assert not unused, "no test imports these"
