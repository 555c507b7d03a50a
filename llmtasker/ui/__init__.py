"""The web page of a server: from a file to checked answers, without code; in French and English.

web_app        the page in an app: its routes, its style sheet and scripts
visit          a request: who asks, in which language; page_route: errors as pages; sessions: who is signed in
begin_pages, file_pages, task_pages, run_pages, results_pages, evaluation_pages, export_pages    the steps of a task
table_facts, task_form, project_task, shown_answers, scored_rows, task_code     the content of the pages
corrections, rows_to_label    what people decide about rows, and which rows they should look at next
page_language, error_words   the words of the page (values.language has the French ones); templates, static: its design
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from llmtasker.ui.web_app import add_pages

__all__ = ["add_pages"]


def __getattr__(name: str) -> Any:
    if name == "add_pages":
        from llmtasker.ui.web_app import add_pages

        return add_pages
    raise AttributeError(name)
