"""The documentation of the API as one HTML page, made from its OpenAPI schema; it loads nothing from elsewhere."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from html import escape
from typing import Any

STYLE = """
:root { color-scheme: light dark; --line: light-dark(#e3e0d9, #2d2f34); --soft: light-dark(#514e48, #b5b3ae);
  --bg: light-dark(#faf9f6, #131416); --ink: light-dark(#1d1c1a, #eceae6); --act: light-dark(#2548a0, #9db8ff); }
body { margin: 0 auto; max-width: 960px; padding: 24px; background: var(--bg); color: var(--ink);
  font: 14px/20px -apple-system, BlinkMacSystemFont, "Segoe UI", Roboto, "Noto Sans", sans-serif; }
h1 { font-size: 20px; line-height: 28px } h2 { font-size: 16px; margin-top: 32px }
article { border-top: 1px solid var(--line); padding: 12px 0 }
h3 { font-size: 14px; margin: 0 0 4px } code, pre, h3 { font-family: ui-monospace, Consolas, monospace }
pre { font-size: 12px; line-height: 18px; overflow-x: auto; border: 1px solid var(--line); border-radius: 6px;
  padding: 8px 12px }
table { border-collapse: collapse; font-size: 13px } td, th { text-align: left; padding: 2px 12px 2px 0;
  vertical-align: top } th { color: var(--soft); font-weight: 600 } p { margin: 4px 0; max-width: 80ch }
.method { color: var(--act) } summary { cursor: pointer; color: var(--soft) }
"""

_INTRODUCTION = """
<p>Send your key in the header <code>X-API-Key</code>. Bodies are JSON in UTF-8 unless a call documents another type. A
call
that can't be served returns <code>application/problem+json</code>: <code>type</code> (its meaning never changes),
<code>title</code>, <code>status</code>, and <code>detail</code>: what was wrong and what to try.</p>
"""


def reference_page(schema: Mapping[str, Any]) -> str:
    """Return the page."""
    return "".join(_page(schema))


def _page(schema: Mapping[str, Any]) -> Iterator[str]:
    title = escape(schema["info"]["title"])
    yield f'<!doctype html><html lang="en"><head><meta charset="utf-8"><title>{title}</title>'
    yield '<meta name="viewport" content="width=device-width, initial-scale=1">'
    yield f'<link rel="stylesheet" href="docs.css"></head><body><main><h1>{title}</h1>{_INTRODUCTION}'
    yield '<p>The same as <a href="openapi.json">OpenAPI</a>, for programs.</p>'
    groups: dict[str, list[str]] = {}
    for path, methods in schema["paths"].items():
        for method, operation in methods.items():
            made = "".join(_operation(schema, path, method, operation))
            groups.setdefault(operation.get("tags", ["other"])[0], []).append(made)
    for name, operations in groups.items():
        yield f"<h2>{escape(name)}</h2>{''.join(operations)}"
    yield "</main></body></html>"


def _operation(schema: Mapping[str, Any], path: str, method: str, operation: Mapping[str, Any]) -> Iterator[str]:
    yield f'<article><h3><span class="method">{method.upper()}</span> {escape(path)}</h3>'
    for paragraph in operation.get("description", "").split("\n\n"):
        yield f"<p>{escape(paragraph)}</p>"
    if parameters := operation.get("parameters"):
        yield "<table><thead><tr><th>parameter</th><th>in</th><th>values</th></tr></thead><tbody>"
        for one in parameters:
            yield f"<tr><td><code>{escape(one['name'])}</code></td><td>{escape(one['in'])}</td>"
            yield f"<td>{escape(_values(one['schema']))}</td></tr>"
        yield "</tbody></table>"
    for media, content in operation.get("requestBody", {}).get("content", {}).items():
        text = json.dumps(content["schema"], indent=2, ensure_ascii=False)
        yield f"<details><summary>Body: {escape(media)}</summary><pre>{escape(text)}</pre></details>"
    for media, content in operation["responses"].get("200", {}).get("content", {}).items():
        if content.get("schema"):
            text = json.dumps(content["schema"], indent=2, ensure_ascii=False)
            yield f"<details><summary>Answer: {escape(media)}</summary><pre>{escape(text)}</pre></details>"
    yield "</article>"


def _values(schema: Mapping[str, Any]) -> str:
    parts = schema.get("anyOf", [schema])
    texts = [" | ".join(map(str, part["enum"])) if "enum" in part else str(part.get("type", "")) for part in parts]
    default = f", by default {schema['default']}" if schema.get("default") is not None else ""
    return " | ".join(text for text in texts if text != "null") + default
