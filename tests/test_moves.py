"""The number of moves between files for a row is bounded, so that its path can be followed."""

import json
from pathlib import Path

from programs import run

BENCHMARKS = Path(__file__).parents[1] / "benchmarks"

LIMITS = {"a call": 90, "run of 1 row": 120, "group of 3 rows": 300}


def test_a_row_moves_between_few_files() -> None:
    measured = run(BENCHMARKS / "moves.py", "--json")
    assert measured.returncode == 0, measured.stderr
    moves = json.loads(measured.stdout)
    assert {name: moves[name] <= most for name, most in LIMITS.items()} == dict.fromkeys(LIMITS, True), moves
