"""Wording: the sentences that a task adds to the user's instructions, in the language of the task."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from llmtasker.wire.group_format import ANCHOR_WORDS

Language = Literal["en", "fr"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Wording:
    """What a prompt adds about the answer, where the schema alone is not enough; each call pays for it.

    `json` and `text` stand before the schema, where a mode has no other place for it. `group`, `id`, `anchor` and
    `answers` describe a group of inputs, and the parts of its answers. A field whose labels come with the input is
    described by `label` or `labels`, which hold `from_offer`, then `more` or, of an open set, `another`.
    """

    json: str
    text: str
    reasoning: str
    group: str
    id: str
    anchor: str
    answers: str
    label: str
    labels: str
    more: str
    another: str
    from_offer: str
    no_labels: str


WORDINGS: dict[Language, Wording] = {
    "en": Wording(
        json="Answer with JSON that fits this schema:",
        text="Answer with JSON that fits this schema, in a ```json block:",
        reasoning="Think step by step, in a few sentences, before you fill in the rest.",
        group=(
            'The message holds several inputs, each between <input id="…"> and </input>. Treat each one by itself, as '
            "if it were the only one. Answer every input exactly once: give its id, as anchor its first "
            f"{ANCHOR_WORDS} words copied verbatim, and then its own answer."
        ),
        id="the id of the input",
        anchor=f"the first {ANCHOR_WORDS} words of the input, verbatim",
        answers="one answer for each input",
        label="a label from <labels>, word for word; ",
        labels="labels from <labels>, word for word; ",
        more='"?" shows the other labels',
        another="another one if none of them fits",
        from_offer="from <labels>, word for word",
        no_labels="(none so far)",
    ),
    "fr": Wording(
        json="Réponds par un JSON conforme à ce schéma :",
        text="Réponds par un JSON conforme à ce schéma, dans un bloc ```json :",
        reasoning="Raisonne pas à pas, en quelques phrases, avant de remplir le reste.",
        group=(
            'Le message contient plusieurs entrées, chacune entre <input id="…"> et </input>. Traite chacune à part, '
            "comme si elle était seule. Réponds une seule fois à chaque entrée : donne son id, comme anchor ses "
            f"{ANCHOR_WORDS} premiers mots recopiés tels quels, puis sa propre réponse."
        ),
        id="l'id de l'entrée",
        anchor=f"les {ANCHOR_WORDS} premiers mots de l'entrée, tels quels",
        answers="une réponse par entrée",
        label="une étiquette de <labels>, mot pour mot ; ",
        labels="des étiquettes de <labels>, mot pour mot ; ",
        more='"?" montre les autres étiquettes',
        another="une autre si aucune ne convient",
        from_offer="de <labels>, mot pour mot",
        no_labels="(aucune pour l'instant)",
    ),
}
