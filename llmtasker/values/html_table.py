"""html_table: a value as a table in a notebook."""

from __future__ import annotations

from collections.abc import Iterable, Sequence


def html_table(rows: Iterable[Sequence[object]], header: Sequence[object] = (), *, longest: int = 400) -> str:
    """Return an HTML table; texts are escaped and shortened, and None is an empty cell.

    >>> html_table([["team", "<b>"]])
    '<table><tr><td style="text-align:left">team</td><td style="text-align:left">&lt;b&gt;</td></tr></table>'
    """
    head = f"<tr>{''.join(f'<th>{_text(name, longest)}</th>' for name in header)}</tr>" if header else ""
    body = "".join(
        f"<tr>{''.join(f'<td style={_LEFT}>{_text(value, longest)}</td>' for value in row)}</tr>" for row in rows
    )
    return f"<table>{head}{body}</table>"


_LEFT = '"text-align:left"'


def _text(value: object, longest: int) -> str:
    if value is None:
        return ""
    try:
        text = value if isinstance(value, str) else str(value)
    except Exception:  # noqa: BLE001 - __str__ of a foreign object may raise anything
        text = f"a {type(value).__name__}"
    import html  # loads all names of characters, and few processes show a table

    shown = text if len(text) <= longest else f"{text[:longest]}…"
    return html.escape(shown).replace("\n", "<br>")
