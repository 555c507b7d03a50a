"""check_query: a parameter that is misspelt is refused."""

from __future__ import annotations

from fastapi import Request

from llmtasker.api.problem import Problem
from llmtasker.errors import nearest, snippet


def check_query(request: Request) -> None:
    """Refuse parameters that the route does not have: a filter that is misspelt must not show all rows."""
    known = [one.alias for one in request.scope["route"].dependant.query_params]
    for name in request.query_params:
        if name not in known:
            there = f" It takes {', '.join(known)}." if known else ""
            raise Problem("invalid", f"{snippet(name, 40)!r} is not a parameter here.{nearest(name, known)}{there}")
