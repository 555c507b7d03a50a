"""How many moves between files a row takes is bounded, so that the way of a row can still be followed."""

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
