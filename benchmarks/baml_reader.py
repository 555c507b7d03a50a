"""BAML as a reader of answers: a JSON schema → BAML source → `BamlRuntime.parse_llm_response`, without generated code.

A type that BAML can't express (free JSON, a constant that is not a scalar) raises `NotExpressibleError`.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from types import ModuleType
from typing import Any

from pydantic import BaseModel, ConfigDict

_SCALARS = {"string": "string", "integer": "int", "number": "float", "boolean": "bool", "null": "null"}
_CLIENT = """client<llm> Nowhere {
  provider openai
  options {
    model "none"
    api_key "none"
    base_url "http://127.0.0.1:9/v1"
  }
}
"""


class NotExpressibleError(ValueError):
    """BAML has no type for this schema."""


class Made(BaseModel):
    """An object as BAML returns it."""

    model_config = ConfigDict(extra="allow")


class BAMLReader:
    """Reads answers to one schema."""

    def __init__(self, schema: Mapping[str, Any]) -> None:
        import baml_py

        self._schema = schema
        self._classes: dict[str, str] = {}
        self._keys: dict[str, dict[str, str]] = {}
        returned = self._type(schema)
        prompt = '#"{{ text }} {{ ctx.output_format }}"#'
        function = f"function Read(text: string) -> {returned} {{\n  client Nowhere\n  prompt {prompt}\n}}\n"
        source = "\n".join([_CLIENT, *self._classes.values(), function])
        self._runtime = baml_py.BamlRuntime.from_files("/tmp/baml_src", {"read.baml": source}, {})
        self._context = self._runtime.create_context_manager()
        self._module = ModuleType("made")  # where BAML looks for generated classes
        for name in self._classes:
            setattr(self._module, name, type(name, (Made,), {"__module__": __name__}))

    def read(self, text: str) -> Any:
        """Return the JSON value of an answer."""
        made = self._runtime.parse_llm_response(
            "Read", text, self._module, self._module, self._module, False, self._context, None, None, {}
        )
        return self._plain(made)

    def _plain(self, value: Any) -> Any:
        if isinstance(value, BaseModel):
            keys = self._keys[type(value).__name__]
            return {keys.get(name, name): self._plain(getattr(value, name)) for name in value.model_dump()}
        if isinstance(value, Mapping):
            return {key: self._plain(part) for key, part in value.items()}
        return [self._plain(part) for part in value] if isinstance(value, list) else value

    def _type(self, node: Any) -> str:
        if not isinstance(node, Mapping) or not node:
            raise NotExpressibleError("free JSON")
        if "$ref" in node:
            return self._class(self._definition(node["$ref"]), node["$ref"].rpartition("/")[2])
        if "const" in node or "enum" in node:
            values = node.get("enum", [node.get("const")])
            if not all(isinstance(value, str | int | bool) for value in values):
                raise NotExpressibleError("a constant that is not a text")
            return "(" + " | ".join(json.dumps(value, ensure_ascii=False) for value in values) + ")"
        kind = node.get("type")
        if isinstance(kind, list):
            return "(" + " | ".join(self._type({**node, "type": one}) for one in kind) + ")"
        members = node.get("anyOf") or node.get("oneOf")
        if members:
            return "(" + " | ".join(map(self._type, members)) + ")"
        if kind == "array":
            return f"({self._type(node.get('items'))})[]"
        if kind == "object" or "properties" in node:
            if node.get("properties"):
                return self._class(node, str(node.get("title", "")))
            return f"map<string, {self._type(node.get('additionalProperties'))}>"
        if kind not in _SCALARS:
            raise NotExpressibleError(str(kind))
        return _SCALARS[kind]

    def _definition(self, reference: str) -> Mapping[str, Any]:
        found: Any = self._schema
        for part in reference.removeprefix("#/").split("/"):
            found = found[part]
        return found

    def _class(self, node: Mapping[str, Any], title: str) -> str:
        if not node.get("properties"):
            return self._type({name: part for name, part in node.items() if name != "$ref"})
        name = "C" + re.sub(r"\W", "_", title or str(len(self._classes)), flags=re.ASCII)
        if name in self._classes:
            return name
        self._classes[name] = ""
        lines, keys = [], {}
        for number, (key, part) in enumerate(node["properties"].items()):
            field = key if re.fullmatch(r"[A-Za-z]\w*", key, re.ASCII) else f"f{number}"
            keys[field] = key
            optional = "" if key in node.get("required", ()) else "?"
            lines.append(f"  {field} {self._type(part)}{optional} @alias({json.dumps(key, ensure_ascii=False)})")
        self._keys[name] = keys
        self._classes[name] = f"class {name} {{\n" + "\n".join(lines) + "\n}\n"
        return name
