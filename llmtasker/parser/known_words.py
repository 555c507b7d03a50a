"""Words by which a sentence is recognised as one of a language whose denials are listed in `cues`.

"Hau ez da billing" and "Ito ay hindi billing" deny their label with words that no list of ours has. So a label that is
only mentioned counts where the sentence has at least one of these words. Not here are words that other languages have
as well ("la", "it", "text") and languages that deny with an ending of the verb, or whose doubts are not listed.
"""

from __future__ import annotations

import re

from llmtasker.values.folding import without_accents
from llmtasker.values.lazy_pattern import lazy_pattern

_ENGLISH = (
    r"the|and|is|it's|that's|this|that|these|those|i'd|i'm|i'll|i think|my|your|you|they|their|his|which|what|who|where"
    r"|when|because|since|about|with|within|from|for|than|then|there|but|not|are|were|been|being|has|have|had|does|did"
    r"|will|would|should|must|most|mostly|mainly|primarily|also|only|just|very|clearly|plainly|simply|definitely"
    r"|certainly|obviously|probably|likely|strongly|sounds?|looks?|seems?|appears?|falls?"
    r"|fits?"
    r"|belongs?|matches|concerns?|concerning|regarding|related|relates?|refers?|describes?|mentions?|discusses|talks?"
    r"|means?|suggests?|indicates?|think|believe|choose|pick|select"
)
_FRENCH = (
    r"le|les|du|des|est|c'est|elle|cette|ceci|cela|dans|pour|avec|car|qui|sur|une|je (?:dirais|choisis|pense|classe)"
    r"|j'ai|d'une?|d'apres|qu'\w+|s'agit|l'\w+|parce|puisque|mais|parle|porte|concerne|releve|traite|appartient"
    r"|correspond|evoque|semble|surement|clairement|plutot"
    r"|surtout|probablement|voici|voila|oui|sans (?:aucun )?doute"
)
_OTHERS = {
    "German": r"der|die|das|ist|eine[rmns]?|und|uber|fur|zum|zur|geht|gehort|handelt|betrifft|diese[rs]?|hier|ich|weil"
    r"|klar|eher|eindeutig|antwort|nachricht",
    "Spanish, Portuguese, Italian": r"el|los|las|una|esta|trata|sobre|pertenece|porque|mensaje|categoria|respuesta"
    r"|uma|pelo|pela|fala|mensagem|resposta|si, es?|gli|della?|riguarda|perche|questo|questa|messaggio|argomento"
    r"|risposta",
    "Dutch": r"het|een|deze|gaat|hoort|bericht|antwoord",
    "Russian": r"это|этот|эта|относится|категория|категории|сообщение|ответ|речь",
}
# Words that other languages borrow or share: "Hau ez da billing, issue hau" is not English.
_SHARED = (
    r"best|sure|okay|ok|yes|well|hmm?|classif\w+|categori[sz]\w+|categor(?:y|ies)|label(?:led)?|answer|issue|sentence"
    r"|customer|confidence|score|reponse|categorie|etiquette|theme|sujet|texte|phrase|bien"
)
# Chinese, Japanese and Korean, which write no spaces or put such words into others.
_PARTS = (
    "这", "這", "是", "属于", "屬於", "关于", "關於", "因为", "因為", "です", "ます", "である", "これ", "この", "ため",
    "について", "입니다", "이다", "이것", "메시지", "관한",
)  # fmt: skip

_IN_WORDS = rf"(?<![\w'-])(?:{'|'.join((_ENGLISH, _FRENCH, *map(without_accents, _OTHERS.values())))})(?!\w)"
_IN_ASCII = lazy_pattern(_IN_WORDS, re.ASCII)
_ANYWHERE = lazy_pattern(rf"{_IN_WORDS}|{'|'.join(map(re.escape, map(without_accents, _PARTS)))}")


_SHARED_WORD = lazy_pattern(rf"(?:{_SHARED})")
_WORD = lazy_pattern(r"[^\W\d_]+")


def has_known_words(words: str) -> bool:
    """Return whether what stands beside a label is in a language whose denials are listed, or has no words.

    `words` are folded by `without_accents`. Words that many languages share count only if they are the most.

    >>> has_known_words("it concerns"), has_known_words("hau ez da"), has_known_words("hau ez da, issue hau")
    (True, False, False)
    """
    if (_IN_ASCII if words.isascii() else _ANYWHERE).search(words) is not None:
        return True
    shared = [_SHARED_WORD.fullmatch(word) is not None for word in _WORD.findall(words)]
    return not shared or sum(shared) * 2 > len(shared)
