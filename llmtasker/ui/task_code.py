"""A task that was described on the page, as Python code."""

from __future__ import annotations

from pprint import pformat
from typing import Any

from llmtasker.api.served_tasks import ClassificationDefinition, Definition
from llmtasker.jobs.project_store import Project
from llmtasker.values.json_values import is_array

_WIDTH = 100
_TYPES = {"text": "str", "integer": "int", "number": "float", "boolean": "bool"}
_HEAD = '''"""{name}: a task for llmtasker. The LLM is the one that LLMTASKER_LLM names."""

{imports}

task = {kind}(
{arguments}
)

if __name__ == "__main__":
    for item in task.run({texts}):
        print(item.error or item.output)
'''


def task_code(definition: Definition, project: Project) -> str:
    """Return a program that makes the task and runs it on the texts given on its command line."""
    if isinstance(definition, ClassificationDefinition):
        kind, imports = "Classification", "import sys\n\nfrom llmtasker import Classification"
        arguments = _classification(definition)
    else:
        labelled = any(isinstance(kind, list) for kind in (definition.output or {}).values())
        kind, imports = "Instruction", "import sys\n\nfrom llmtasker import Instruction"
        if labelled:
            imports = "import sys\nfrom typing import Literal\n\nfrom llmtasker import Instruction"
        arguments = {
            "instructions": _literal(definition.instructions),
            "output": _fields(definition.output),
            "examples": _literal([(one.text, one.output) for one in definition.examples]),
        }
    lines = "\n".join(f"    {name}={value}," for name, value in arguments.items())
    name = project.name.replace("\\", "").replace('"', "'")
    return _HEAD.format(name=name, imports=imports, kind=kind, arguments=lines, texts="sys.argv[1:]")


def _classification(definition: ClassificationDefinition) -> dict[str, str]:
    arguments: dict[str, Any] = {"labels": definition.labels}
    if definition.instructions is not None:
        arguments["instructions"] = definition.instructions
    if definition.examples:
        arguments["examples"] = [(one.text, one.label) for one in definition.examples]
    for name in ("multi_label", "open_set", "allow_none"):
        if getattr(definition, name):
            arguments[name] = True
    if definition.language != "en":
        arguments["language"] = definition.language
    return {name: _literal(value) for name, value in arguments.items()}


def _fields(output: dict[str, Any] | None) -> str:
    if output is None:
        return "str"
    kinds: dict[str, str] = {
        name: f"Literal[{', '.join(map(repr, kind))}]" if is_array(kind) else _TYPES[kind]
        for name, kind in output.items()
    }
    return "{" + ", ".join(f"{name!r}: {kind}" for name, kind in kinds.items()) + "}"


def _literal(value: Any) -> str:
    """Return a value as Python, indented as an argument."""
    return pformat(value, width=_WIDTH, sort_dicts=False).replace("\n", "\n    ")
