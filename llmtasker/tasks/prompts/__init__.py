"""Generic prompt texts, French and English: one file per text, `<task>.<language>.txt`."""

from __future__ import annotations

from importlib.resources import files
from typing import get_args

from llmtasker.errors import ConfigurationError
from llmtasker.wire.wording import Language


def prompt_text(name: str, language: Language) -> str:
    """Return a generic prompt text.

    Raises:
        ConfigurationError: there is no text in this language.

    >>> "{classes}" in prompt_text("classification.single", "fr")
    True
    """
    if language not in get_args(Language):
        raise ConfigurationError(f"there are no generic prompts in {language!r}: choose one of {get_args(Language)}.")
    return files(__name__).joinpath(f"{name}.{language}.txt").read_text(encoding="utf-8").strip()
