"""How many broken answers are read right, refused, or read wrong without a word: llmtasker and others.

    python benchmarks/robustness.py --data DIR [--json] [--check]

DIR contains malformed_cases.jsonl, corrupted_outputs.jsonl and replay_sib200.jsonl; answer_kinds.py makes more rows.
Malformed texts (other parsers' own tests) and corrupted ones (real answers, broken) count apart. How a row is judged:

- an expected value: right if the same value comes out, an error otherwise, or silently wrong;
- an expected error, and cut texts ("partial"): right if an error comes out. A "partial" row whose text is not cut
  may also give its value;
- "TRUNCATED (finish=length)" rows are read without the endpoint's finish_reason, which settles it before anything is
  read: an error is right, and so is the value of the whole text (nothing but brackets was cut);
- "salvage" rows (a json_repair option that drops or guesses): an error is right, and so is the expected value;
- rows marked as disputed are counted apart.
"""

from __future__ import annotations

import argparse
import functools
import importlib.util
import json
import re
import sys
import time
import warnings
from collections import defaultdict
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import answer_kinds
from pydantic import TypeAdapter
from schema_types import Types

from llmtasker.errors import OutputError
from llmtasker.parser.answer_schema import AnswerSchema
from llmtasker.parser.read import read

Reader = Callable[[str, "Target"], Any]
OURS = "llmtasker"
CUT = "TRUNCATED (finish=length)"
DISPUTED = "disputed"
AFTER_NUMBER = "missing last brace after a number"
"""Refused on purpose: the number may have been cut as well, and no finish_reason is known here."""
_OPTIONAL = {"DSPy": "dspy", "BAML": "baml-py"}
MARKS = ("right", "error", "silent", "own")


class Target:
    """What a row asks for: a type, or any JSON."""

    def __init__(self, schema: dict[str, Any] | None) -> None:
        types = None if schema is None else Types(schema)
        self.made = None if types is None else types.made
        self.adapter: TypeAdapter[Any] = TypeAdapter(Any) if types is None else types.adapter
        self.json_schema = schema
        self.schema = AnswerSchema({}) if schema is None else AnswerSchema.of(types.made)

    def validate(self, value: Any) -> Any:
        """Return the value as the type makes it."""
        return self.adapter.validate_python(value)

    def plain(self, value: Any) -> Any:
        """Return a validated value as JSON values without nulls, to compare."""
        return _without_nulls(self.adapter.dump_python(value, mode="json", by_alias=True))


def _without_nulls(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _without_nulls(item) for key, item in value.items() if item is not None}
    return [_without_nulls(item) for item in value] if isinstance(value, list) else value


def _ours(text: str, target: Target) -> Any:
    return read(text, target.schema, target.validate).value


def _json(text: str, target: Target) -> Any:
    return target.validate(json.loads(text))


def _json_repair(text: str, target: Target) -> Any:
    import json_repair

    value = json_repair.loads(text)
    if value == "" and text.strip() not in ('""', "''"):
        raise ValueError("nothing found")  # json_repair's way of reporting it
    return target.validate(value)


def _instructor(text: str, target: Target) -> Any:
    from instructor.v2.core.json import extract_json_from_codeblock

    return target.validate(json.loads(extract_json_from_codeblock(text)))


def _dspy_style(text: str, target: Target) -> Any:
    """Read as DSPy's JSON adapter does: json_repair, the outermost object, each field by its type."""
    import json_repair

    value = json_repair.loads(text)
    if not isinstance(value, dict) and (found := re.search(r"\{.*\}", text, re.DOTALL)):
        value = json_repair.loads(found[0])
    if value == "" and text.strip() not in ('""', "''"):
        raise ValueError("nothing found")
    known = (target.json_schema or {}).get("properties")
    if known and isinstance(value, dict):
        value = {name: part for name, part in value.items() if name in known}
    return target.validate(value)


def _baml(text: str, target: Target) -> Any:
    return target.validate(_baml_reader(json.dumps(target.json_schema)).read(text))


@functools.cache
def _baml_reader(schema: str) -> Any:
    from baml_reader import BAMLReader

    return BAMLReader(json.loads(schema) or {})


def _dspy(text: str, target: Target) -> Any:
    from dspy.adapters.utils import parse_value

    return parse_value(text, Any if target.made is None else target.made)


def readers() -> dict[str, Reader]:
    """Return what can be measured here."""
    found: dict[str, Reader] = {
        OURS: _ours,
        "json.loads": _json,
        "json_repair": _json_repair,
        "instructor": _instructor,
        "DSPy style": _dspy_style,
    }
    optional = {"dspy": ("DSPy", _dspy), "baml_py": ("BAML", _baml)}
    return found | dict(reader for module, reader in optional.items() if importlib.util.find_spec(module))


@dataclass
class Table:
    """Counts per row name and reader."""

    counts: dict[str, dict[str, dict[str, int]]] = field(
        default_factory=lambda: defaultdict(lambda: defaultdict(lambda: dict.fromkeys(MARKS, 0)))
    )
    wrong: list[dict[str, Any]] = field(default_factory=list)

    def add(self, name: str, reader: str, mark: str) -> None:
        """Count one text."""
        self.counts[name][reader][mark] += 1

    def percent(self, name: str, reader: str, mark: str) -> float:
        """Return the share of a mark in a row, in %."""
        counted = self.counts[name][reader]
        return 100 * counted[mark] / max(1, sum(counted.values()))


def rows(path: Path) -> Iterable[dict[str, Any]]:
    """Yield the rows of a JSONL file."""
    for line in path.read_text(encoding="utf-8").splitlines():
        yield json.loads(line)


def _judge(row: dict[str, Any], target: Target, reader: Reader) -> tuple[str, Any]:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            value = target.plain(reader(row["raw_text"], target))
    except Exception as error:
        if reader is _ours and not isinstance(error, OutputError):
            raise
        refusal = row.get("kind") in ("partial", "salvage") or "expect_error" in row
        return ("right" if refusal else "error"), error
    if "true_value" in row and _same(value, _truth(row["true_value"], target)) and row["mutation"] == CUT:
        return "right", value
    if "expect_error" in row or (row.get("kind") == "partial" and _is_cut(row["raw_text"])):
        return "silent", value
    return ("right" if _same(value, _truth(row["expected"], target)) else "silent"), value


def _truth(expected: Any, target: Target) -> Any:
    try:
        return target.plain(target.validate(expected))
    except ValueError:
        return _without_nulls(expected)


def _same(one: Any, other: Any) -> bool:
    return json.dumps(one, sort_keys=True) == json.dumps(other, sort_keys=True)


def _is_cut(text: str) -> bool:
    """Return whether the text contains no complete JSON value."""
    for start in (index for index, char in enumerate(text) if char in "{["):
        try:
            json.JSONDecoder().raw_decode(text, start)
        except ValueError:
            continue
        return start > 0 and text[:start].lstrip()[:1] in ("{", "[")
    try:
        json.loads(text)
    except ValueError:
        return True
    return False


def corruption(row: dict[str, Any]) -> str:
    """Return the name of the row that a corrupted text counts for."""
    ends_in_number = row["mutation"] == "missing last brace" and row["raw_text"].rstrip()[-1:].isdigit()
    return AFTER_NUMBER if ends_in_number else row["mutation"]


def measure_texts(
    texts: Iterable[dict[str, Any]], name_of: Callable[[dict[str, Any]], str], found: dict[str, Reader]
) -> Table:
    """Read each text with each reader."""
    table = Table()
    for row in texts:
        target = Target(row["target_schema"])
        for reader_name, reader in found.items():
            mark, got = _judge(row, target, reader)
            table.add(name_of(row), reader_name, mark)
            if reader is _ours and mark != "right":
                table.wrong.append({"id": row["id"], "mark": mark, "text": row["raw_text"], "got": str(got)[:300],
                                    "expected": row.get("expected", "error")})  # fmt: skip
    return table


def _exact(text: str, labels: list[str]) -> str:
    return {label.casefold(): label for label in labels}[text.strip().strip(".\"'").casefold()]


def _mentioned(text: str, labels: list[str]) -> str:
    (label,) = [label for label in labels if label in text.casefold()]
    return label


def _says_plainly(text: str, labels: list[str]) -> str | None:
    low = text.casefold()
    if re.search(r"\b(?:not|no|nor|or|and possibly)\b|n't", low.partition(" as it ")[0].partition(". ")[0]):
        return None
    named = [label for label in labels if label in low]
    words = (
        r"\b(?:regarding|related to|about|category(?: of)?|topic of|under)(?: the (?:category|topic)(?: of)?)? [\"']?"
    )
    return named[0] if len(named) == 1 and re.search(words + re.escape(named[0]), low) else None


def measure_labels(path: Path) -> Table:
    """Read the label in an LLM's prose.

    A label that is not the gold one is the LLM's "own" error if its text plainly names that label, so that no reader
    can know better: one label in the text, behind "regarding", "category of" or the like, without a negation.
    """
    table = Table()
    ways = {"exact": _exact, "only mention": _mentioned}
    for row in rows(path):
        schema = {"type": "object", "properties": {"topic": {"enum": row["labels"]}}, "required": ["topic"]}
        target = Target(schema)
        found = {OURS: lambda text, target=target: target.plain(_ours(text, target))["topic"]}
        found |= {name: (lambda text, way=way, row=row: way(text, row["labels"])) for name, way in ways.items()}
        for name, reader in found.items():
            try:
                label = reader(row["raw_output"])
            except (OutputError, KeyError, ValueError):
                mark = "error"
            else:
                plainly = _says_plainly(row["raw_output"], row["labels"]) == label
                mark = "right" if label == row["gold"] else "own" if plainly else "silent"
                if name == OURS and mark == "silent":
                    table.wrong.append({"id": row["id"], "mark": mark, "text": row["raw_output"], "got": label,
                                        "expected": row["gold"]})  # fmt: skip
            table.add(row["lang"], name, mark)
            table.add("all", name, mark)
    return table


def show(title: str, table: Table) -> None:
    """Print a table: right / error / silently wrong in %, and for labels the LLM's own errors."""
    names = list(next(iter(table.counts.values())))
    marks = [mark for mark in MARKS if any(by[mark] for row in table.counts.values() for by in row.values())]
    print(f"\n{title}: {' / '.join(marks)}, %\n{'':34}{'n':>5}" + "".join(f"{name:>20}" for name in names))
    for row_name in sorted(table.counts):
        cells = (" / ".join(f"{table.percent(row_name, name, mark):.0f}" for mark in marks) for name in names)
        total = sum(table.counts[row_name][names[0]].values())
        print(f"{row_name[:34]:34}{total:5}" + "".join(f"{cell:>20}" for cell in cells))


def failures(malformed: Table, corrupted: Table, kinds: Table, labels: Table) -> list[str]:
    """Return which targets are missed."""
    missed: list[str] = []
    for name, by_reader in corrupted.counts.items():
        others = [other for other in by_reader if other != OURS]
        best = max(corrupted.percent(name, other, "right") for other in others)
        if corrupted.percent(name, OURS, "right") < best and name != AFTER_NUMBER:
            missed.append(f"{name}: another parser is right more often")
        if name == CUT and corrupted.counts[name][OURS]["silent"]:
            missed.append(f"{name}: a cut text was read silently")
    for name, table, right, silent in (("malformed", malformed, 64, 2), ("corrupted", corrupted, 99, 0)):
        share = overall(table)
        if share["right"] < right or round(share["silent"], 1) > silent:
            missed.append(f"{name}: {share['right']:.1f} % right, {share['silent']:.1f} % silent")
    for name, right in ((answer_kinds.UNASKED, 94), (answer_kinds.SHORT_LABELS, 90), (answer_kinds.SEVERAL, 95)):
        if kinds.percent(name, OURS, "right") < right or kinds.percent(name, OURS, "silent") > 1:
            missed.append(f"{name}: less than {right} % right, or more than 1 % silent")
    read_right = labels.percent("all", OURS, "right") + labels.percent("all", OURS, "own")
    if read_right < 70 or labels.percent("all", OURS, "silent") > 4:
        missed.append("labels in prose: the named label is read in less than 70 %, or misread in more than 4 %")
    return missed


def overall(table: Table, reader: str = OURS) -> dict[str, float]:
    """Return a reader's share of each mark over all rows that are not disputed, in %."""
    counted = dict.fromkeys(MARKS[:3], 0)
    for name, by_reader in table.counts.items():
        for mark in MARKS[:3]:
            counted[mark] += 0 if name == DISPUTED else by_reader[reader][mark]
    total = max(1, sum(counted.values()))
    return {mark: 100 * count / total for mark, count in counted.items()}


def _malformed_name(row: dict[str, Any]) -> str:
    if row.get("disputed"):
        return DISPUTED
    typed = "typed" if row["target_schema"] else "any"
    return f"{row['source'].rpartition('/')[2][:20]} {row['kind']} {typed}"


def main() -> int:
    """Measure, print, and with --check return 1 if a target is missed."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--json", action="store_true", help="print one JSON object instead of tables")
    parser.add_argument("--check", action="store_true", help="exit with 1 if a target is missed")
    parser.add_argument("--show", action="store_true", help="also print each text that we do not read right")
    options = parser.parse_args()
    started = time.perf_counter()
    found = readers()
    malformed = measure_texts(rows(options.data / "malformed_cases.jsonl"), _malformed_name, found)
    corrupted = measure_texts(rows(options.data / "corrupted_outputs.jsonl"), corruption, found)
    kinds = measure_texts(answer_kinds.rows(), lambda row: str(row["mutation"]), found)
    labels = measure_labels(options.data / "replay_sib200.jsonl")
    tables = {"malformed": malformed, "corrupted": corrupted, "kinds of answers": kinds, "labels in prose": labels}
    total = {name: overall(tables[name]) for name in ("malformed", "corrupted")}
    missed = failures(malformed, corrupted, kinds, labels)
    if options.json:
        print(json.dumps({"overall": total, "missed": missed, **{k: t.counts for k, t in tables.items()}}))
    else:
        for title, table in tables.items():
            show(title, table)
            for wrong in table.wrong if options.show else ():
                print(json.dumps(wrong, ensure_ascii=False))
        print()
        for name in total:
            for reader in found:
                figures = ", ".join(f"{mark} {share:.1f} %" for mark, share in overall(tables[name], reader).items())
                print(f"overall {name}, {reader}: {figures}")
        absent = [f"{name} (pip install {module})" for name, module in _OPTIONAL.items() if name not in found]
        print("not measured here: " + (", ".join(absent) or "none") + f"; {time.perf_counter() - started:.0f} s")
        print("targets: " + ("all met" if not missed else "; ".join(missed)))
    return 1 if options.check and missed else 0


if __name__ == "__main__":
    sys.exit(main())
