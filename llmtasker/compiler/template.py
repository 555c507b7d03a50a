"""{variable} substitution in instructions: one pass, plain names only, other braces stay as they are."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field

from llmtasker.errors import ConfigurationError, closest
from llmtasker.values.lazy_pattern import lazy_pattern

# `{{name}}` is a literal {name}; `{name}` a variable. JSON and code have no lone identifier between braces.
_PLACE = lazy_pattern(r"\{\{([^\W\d]\w*)\}\}|\{([^\W\d]\w*)\}")
_JINJA = lazy_pattern(r"\{\{\s+([^\W\d]\w*)[^{}]*\}\}")


@dataclass(frozen=True, slots=True)
class Variable:
    """A place in a template for a value."""

    name: str


@dataclass(frozen=True, slots=True)
class Template:
    """Instructions cut into text and variables.

    Inserted values are not parsed again, so they may contain braces, and a template can't reach attributes.

    >>> Template.parse('Sort {text} into {classes}; answer {"label": …}', {"text", "classes"}).names
    ('text', 'classes')
    """

    parts: tuple[str | Variable, ...]
    names: tuple[str, ...] = field(init=False, repr=False, compare=False)
    """The variables, in order of first appearance."""

    def __post_init__(self) -> None:
        names = dict.fromkeys(part.name for part in self.parts if isinstance(part, Variable))
        object.__setattr__(self, "names", tuple(names))

    @classmethod
    def parse(cls, text: str, known: Collection[str]) -> Template:
        """Return the template of a text.

        Raises:
            ConfigurationError: the text has a {name} that is not among the known ones.
        """
        parts: list[str | Variable] = []
        end = 0
        for place in _PLACE.finditer(text):
            literal, name = place.groups()
            parts.append(text[end : place.start()])
            end = place.end()
            if literal is not None:
                parts.append(f"{{{literal}}}")
            elif name in known:
                parts.append(Variable(name))
            else:
                raise ConfigurationError(_unknown(name, known))
        parts.append(text[end:])
        for place in _JINJA.finditer(text):
            if place.group(1) in known:
                raise ConfigurationError(
                    f"{place.group()!r} in the instructions is not a variable: write {{{place.group(1)}}}."
                )
        return cls(tuple(part for part in parts if part != ""))

    def fill(self, values: Mapping[str, str]) -> Template:
        """Return the template with these variables put in; the others stay."""
        filled: list[str | Variable] = []
        for part in self.parts:
            done = values[part.name] if isinstance(part, Variable) and part.name in values else part
            if isinstance(done, str) and filled and isinstance(filled[-1], str):
                filled[-1] += done
            else:
                filled.append(done)
        return Template(tuple(filled))

    def render(self, values: Mapping[str, str]) -> str:
        """Return the text with every variable put in."""
        return "".join(part if isinstance(part, str) else values[part.name] for part in self.parts)


def _unknown(name: str, known: Collection[str]) -> str:
    near = closest(name, known)
    hint = f" Did you mean {{{near}}}?" if near else ""
    return (
        f"the instructions have the variable {{{name}}}, which is unknown.{hint} "
        f"Known: {', '.join(f'{{{other}}}' for other in sorted(known))}. "
        f"Pass others as variables={{{name!r}: …}}; for the text {{{name}}} itself write {{{{{name}}}}}."
    )
