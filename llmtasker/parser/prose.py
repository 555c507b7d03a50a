"""How a sentence uses the label that it mentions: states it as the answer, or doubts or negates it.

All patterns are for text in lower case without accents, in English and French.
"""

from __future__ import annotations

import re
from enum import IntEnum

_DENIAL = (
    r"not(?! (?:only|just|merely)\b)|no(?! doubt\b)|nope|nor|neither|never|none|nothing|without|cannot|rather than"
    r"|instead of|other than|anything but|everything but|all but|far from|opposite|apart from|aside from|besides?"
    r"|except\w*|exclud\w+|unlike|avoid\w*|ignor\w+|reject\w*|rule[sd]? out|wrong\w*|incorrect\w*|mistaken\w*|least"
    r"|less|worst|last|little|low|almost|looks? like|too \w+ to|unable|impossible|hardly|barely|0 ?%|~~"
    r"|ne|pas|ni|aucune?|jamais|rien|sans(?! (?:aucun )?doute\b)|sauf|hormis|excepte|exclure|exclue?s?|a part"
    r"|loin d\w*|(?:a l')?oppose|contraire|plutot que|au lieu d\w*|non(?! seulement\b)|evite[rz]?|fau(?:x|sse)"
    r"|incorrecte?|a tort|mauvaise?|pire|trop"
)
_DOUBT = (
    r"maybe|perhaps|possibly|conceivably|might|unlikely|improbable|doubt\w*(?<!no doubt)|unclear|unsure|uncertain"
    r"|difficult|whether|if|unless|second choice|runner.up|alternatively|formerly|used to|guess\w*"
    r"|(?:you|some|one|they|people|customer|client) (?:\w+ )?says?|m'etonnerait|penser"
    r"|peut[ -]etre|eventuellement|possible(?:ment)?|pourrait|pourraient|difficile|incertaine?|douteu\w+"
    r"|doute que|si|s'il"
)
_CUE = re.compile(rf"(?<!\w)(?:{_DENIAL}|{_DOUBT})(?!\w)|n't\b|\bn'|[❌✗✘✖🚫👎≠¬]|!=")
_TURN = re.compile(
    r"\b(?:but|however|mais|cependant|toutefois|instead(?! of)|rather(?! than)|plutot(?! que)|therefore|donc|so|thus"
    r"|hence)\b|, (?:it|this|c'est|il s'agit|elle|cela)\b"
)
# A reason or something else follows these words, and may contain a negation.
_GOES_ON = re.compile(
    r"\b(?:because|as|since|for|and|or|which|who|that|where|car|parce|puisque|comme|et|ou|qui|dont)\b"
)
# These apply to the whole answer, wherever they occur.
_NOT_SURE = re.compile(
    r"\b(?:not (?:\w+ )?(?:sure|certain)|unsure|no idea|don't know|do not know|(?:ne )?sais pas"
    r"|pas (?:\w+ )?(?:sure?|certaine?)\b)"
    r"|\b(?:that|this|it)(?:'s| is| was| would be) (?:\w+ )?(?:wrong|incorrect|a mistake)|\bc'est (?:faux"
    r"|incorrect|une erreur)"
    r"|\b(?:this|that|it) (?:isn't|is not) (?:it|right|correct)\b|\bce n'est pas (?:ca|cela|le cas)\b"
    r"|[.!;\n]\s*(?:or )?(?:no|not|non|nope)\b[.!]*\s*$"
    r"|[.!;\n]\s*(?:no|non|nope|wait|actually|correction|sorry|attends|en fait)\b[,:.!]"
)
_NONE_FITS = re.compile(
    r"(?:\b(?:not|no|cannot|ne|none)\b|n't\b|\bn')[^.!?\n]{0,60}"
    r"\b(?:any|aucune?|of the|des|specific)\b[^.!?\n]{0,40}\b(?:categor|label|class|topic|option|theme|etiquette)"
)
# 'no category fits; it is about gold, which falls under the category of …'
_FITS_AFTER_ALL = re.compile(
    r"\b(?:falls?|fits?|belongs?|releve|entre) (?:under|into|in|to|de|dans) (?:the |la )?"
    r"(?:category|class|label|categorie|classe)"
)
_CLAUSE = re.compile(rf"[,;]\s|{_TURN.pattern}")
_CLOSE = r"[\"'`*_)\]}»”$]*"
_OPEN = r"[\"'`*_(\[{«“$]*"
_OTHER_AFTER = re.compile(rf"{_CLOSE}\s*(?:/\s*|,?\s(?:or|ou)\s+){_OPEN}\w")
_OTHER_BEFORE = re.compile(
    rf"\w{_CLOSE}\s*(?:/\s*|,?\s(?:or|ou)\s+){_OPEN}(?:(?:the|an?|la|les?|une?|des?) |(?:l'|d'))?$"
)

_HEAD = (
    r"(?:answer|choice|option|label|category|class|letter|team|verdict|conclusion|rating|score|result|prediction"
    r"|decision|reponse|choix|categorie|etiquette|lettre|classe|equipe|note|valeur)"
)
_ANSWER = re.compile(
    rf"(?:\b{_HEAD}\b[^.,;:!?\n]{{0,40}}?(?:\bis\b|\best\b|'s\b|[:=]|->|→)"
    r"|\b(?:choose|pick|select|go with|choisis|choisirais)\b|\\boxed\s*\{|(?:^|\n)\s*#{2,}|→|⇒|=>|->)"
    rf"[\s:=]*{_OPEN}(?:(?:the|la|le) )?(?:{_HEAD}\s+)?(?:\\(?:text|boxed|mathrm|mathbf)\s*\{{)?{_OPEN}$"
)
_IS_THE_ANSWER = re.compile(
    rf"{_CLOSE}\s*(?:is|seems|est|semble)\s+(?:to be |etre )?(?:the |la |le |my )?(?:\w+ )?"
    rf"(?:correct|right|best|correcte|bonne|{_HEAD})\b"
)
_NAMED = re.compile(rf"^[\W_]*(?:(?:the|la|le) )?(?:\w+ )?{_HEAD}\s+{_OPEN}$|^[\W_]*$")
# 'Option B' as the first words, and then a stop.
_HEADED = re.compile(rf"[\W_]*(?:(?:the|my|la|le|ma|mon) )?{_HEAD}\s+{_OPEN}")
_STOP = re.compile(
    rf"[)\]]\s|{_CLOSE}\s*(?:[.,;:!?\n]|$|\(|[-–—]+\s|(?:because|since|as|car|puisque|parce|which|and|et)\b)"
)
_END = re.compile(rf"{_CLOSE}[\s.!]*$")
_MARKED_BEFORE = re.compile(r"(?:[\"'`*(\[«“]|[:=]|\b(?:is|est))\s*$")
_MARKED_AFTER = re.compile(r"\s*(?:[\"'`*)\]»”.,;!]|$)")
_OPENER = re.compile(r"[\W_]*(?:(?:so|sure|ok|okay|of course|here you go|oui|bien sur|voici|voila)[\s,:!]+)*[\W_]*")


class Frame(IntEnum):
    """How plainly a sentence sets a word off as its answer."""

    NONE = 0
    MARKED = 1  # in quotes, brackets or bold, behind a colon, or first and followed by a stop
    ANSWER = 2  # 'the answer is X', 'Option X is right'


def frame(sentence: str, start: int, end: int, *, first: bool) -> Frame:
    """Return how the sentence frames its word `[start:end]`; `first` if it is the first sentence of the text.

    >>> frame("the answer is (b)", 15, 16, first=True).name
    'ANSWER'
    >>> frame("it is a metal", 6, 7, first=True).name
    'NONE'
    """
    before, after = sentence[max(0, start - 150) : start], sentence[end:]
    stopped = _STOP.match(after) is not None
    if stopped and _ANSWER.search(before):
        return Frame.ANSWER
    if _IS_THE_ANSWER.match(after) and _NAMED.search(before):
        return Frame.ANSWER
    if before.endswith(("-", "+")) or (
        sentence[start:end].isdigit() and after[:1] in (".", ":", ",", ")") and before[-1:] != "("
    ):
        return Frame.NONE  # a number, or the number of a paragraph
    if _OPENER.fullmatch(before):
        return Frame.MARKED if (stopped and first) or _END.match(after) else Frame.NONE
    if first and stopped and _HEADED.fullmatch(before):
        return Frame.MARKED
    return Frame.MARKED if _MARKED_BEFORE.search(before) and _MARKED_AFTER.match(after) else Frame.NONE


def objection(text: str) -> str | None:
    """Return why no mention in the text counts, or None: it is not sure, or no label fits."""
    if (none := _NONE_FITS.search(text)) and not _FITS_AFTER_ALL.search(text, none.end()):
        return "no label fits, by its own words"
    return "it is not sure, or takes it back" if _NOT_SURE.search(text) else None


def denies(sentence: str, start: int, end: int, *, clause: bool = False) -> bool:
    """Return whether the sentence asks, doubts or negates its word `[start:end]`, or sets another one beside it.

    With `clause`, only what stands in the same clause counts of what comes before the word.

    >>> denies("it is not about billing", 16, 23), denies("it is about billing", 12, 19)
    (True, False)
    """
    before, after = sentence[:start], sentence[end:]
    if clause:
        before = before[max((match.end() for match in _CLAUSE.finditer(before)), default=0) :]
    if sentence.rstrip().endswith("?") or _OTHER_AFTER.match(after) or _OTHER_BEFORE.search(before):
        return True
    reason = _GOES_ON.search(after)
    if _CUE.search(after, 0, reason.start() if reason else len(after)):
        return True
    cues = list(_CUE.finditer(before))
    return bool(cues) and not _TURN.search(before, cues[-1].end())
