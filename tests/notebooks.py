"""Execute the notebooks of the documentation, and make their pages from the outputs.

`make notebooks` executes each notebook in docs/*/how-to again, and writes it and the page beside it. With `--check`
nothing is written, and a difference in any cell is an error; `make site` does that. None needs a key or a network.
"""

from __future__ import annotations

import copy
import difflib
import os
import re
import sys
import tempfile
from importlib import import_module
from pathlib import Path
from typing import Any

TOP = Path(__file__).parent.parent
NOTEBOOKS = sorted((TOP / "docs").glob("*/how-to/*.ipynb"))
SECONDS = 120  # for one cell


def executed(path: Path) -> Any:
    """Return a notebook with its outputs of now.

    Raises:
        nbclient.exceptions.CellExecutionError: a cell raised.
    """
    nbformat, nbclient = import_module("nbformat"), import_module("nbclient")
    notebook = copy.deepcopy(nbformat.read(path, as_version=4))
    with tempfile.TemporaryDirectory() as empty:
        os.environ["LLMTASKER_CACHE_DIR"] = empty  # answers of earlier runs must not be used
        client = nbclient.NotebookClient(
            notebook,
            timeout=SECONDS,
            resources={"metadata": {"path": empty}},
            extra_arguments=["--log-level=ERROR"],  # it warns of sockets without encryption; they are on the loopback
        )
        client.execute(env={**os.environ, "PYTHONPATH": str(TOP)})
    for cell in notebook.cells:
        cell.metadata.clear()  # when it was executed
    notebook.metadata = {"kernelspec": {"display_name": "Python 3", "language": "python", "name": "python3"}}
    nbformat.validate(notebook)
    return notebook


def page(notebook: Any, name: str) -> str:
    """Return a notebook as a page of the documentation; `name` is that of its file."""
    parts: list[str] = [f"<!-- made from {name}: make notebooks -->"]
    for cell in notebook.cells:
        if cell.cell_type == "markdown":
            parts.append(cell.source)
            continue
        parts.append(f"```python\n{cell.source}\n```")
        for output in cell.outputs:
            html = output.get("data", {}).get("text/html")
            text = output.get("text") or output.get("data", {}).get("text/plain", "")
            parts.append(_below_the_page(html) if html else f"```text\n{text.rstrip()}\n```")
    return "\n\n".join(parts) + "\n"


def _below_the_page(html: str) -> str:
    """Return the HTML of an output as one block: its headings are below those of the page."""
    html = re.sub(r"(</?h)([1-3])\b", lambda found: f"{found[1]}{int(found[2]) + 2}", html)
    one_line = re.sub(r"\s*\n\s*", " ", html)
    return f"<div>{one_line}</div>"


def differences(path: Path, notebook: Any) -> list[str]:
    """Return the differences between a notebook with its page on disk and the executed one, cell by cell."""
    nbformat = import_module("nbformat")
    stored = nbformat.read(path, as_version=4)
    found: list[str] = []
    for place, (old, new) in enumerate(zip(stored.cells, notebook.cells, strict=True)):
        if (old.source, old.get("outputs")) != (new.source, new.get("outputs")):
            changed = difflib.unified_diff(_lines(old), _lines(new), "as stored", "executed now", n=1, lineterm="")
            found.append("\n".join([f"{path}: cell {place} differs", *changed]))
    beside = path.with_suffix(".md")
    if not beside.exists() or beside.read_text(encoding="utf-8") != page(notebook, path.name):
        found.append(f"{beside} is not the page of {path.name}")
    return found


def _lines(cell: Any) -> list[str]:
    """Return a cell line by line, tables row by row."""
    texts = [output.get("text") or "\n".join(output.get("data", {}).values()) for output in cell.get("outputs", [])]
    return re.sub(r"(?=<(tr|h\d|li)\b)", "\n", "\n".join([cell.source, *texts])).splitlines()


def code_of(notebook: Any) -> list[str]:
    """Return the code of a notebook, which is the same in all languages."""
    return [cell.source for cell in notebook.cells if cell.cell_type == "code"]


def main(check: bool) -> int:
    """Execute all notebooks; return 1 if anything differs."""
    found: list[str] = []
    first: dict[str, list[str]] = {}
    for path in NOTEBOOKS:
        notebook = executed(path)
        if first.setdefault(path.name, code_of(notebook)) != code_of(notebook):
            found.append(f"{path}: its code is not that of the other language")
        if check:
            found += differences(path, notebook)
        else:
            import_module("nbformat").write(notebook, path)
            path.with_suffix(".md").write_text(page(notebook, path.name), encoding="utf-8")
    for line in found:
        print(line, file=sys.stderr)
    if found:
        print("Make them again: make notebooks", file=sys.stderr)
    return int(bool(found))


if __name__ == "__main__":
    sys.exit(main(check="--check" in sys.argv[1:]))
