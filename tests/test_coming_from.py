"""The code of other libraries on the page "coming from", which can't be installed beside ours: `make test-others`."""

from __future__ import annotations

import os
import re
from pathlib import Path

import programs
import pytest

from llmtasker.testing import FaultyServer

PAGES = [Path(__file__).parents[1] / "docs" / language / "how-to/coming-from.md" for language in ("en", "fr")]
BLOCK = re.compile(r'^```py title="(\w+\.py)"\n(.*?)^```$', re.MULTILINE | re.DOTALL)


@pytest.mark.others
@pytest.mark.parametrize("program", ["with_dspy.py", "with_scikit_llm.py"])
def test_the_code_of_others_does_the_same(program: str, tmp_path: Path) -> None:
    (tmp_path / program).write_text(
        dict(BLOCK.findall(PAGES[0].read_text(encoding="utf-8")))[program], encoding="utf-8"
    )

    def answer(body: dict[str, list[dict[str, str]]]) -> dict[str, str]:
        team = "billing" if "charged" in body["messages"][-1]["content"] else "delivery"
        return {"team": team, "label": team}

    with FaultyServer(answer=answer) as server:
        address = {"OPENAI_BASE_URL": server.base_url, "OPENAI_API_BASE": server.base_url, "OPENAI_API_KEY": "none"}
        done = programs.run(
            program,
            program=os.environ["PYTHON_OF_OTHERS"],
            cwd=tmp_path,
            env={"PATH": os.environ["PATH"], "HOME": str(tmp_path), **address},
            timeout=100,
        )
    assert done.stdout.split() == ["billing", "delivery"], done.stderr


def test_both_languages_show_the_same_code() -> None:
    english, french = (
        re.findall(r"^```(?:py|python)\b.*?^```$", page.read_text(encoding="utf-8"), re.MULTILINE | re.DOTALL)
        for page in PAGES
    )
    assert english == french
    assert len(english) > 8
