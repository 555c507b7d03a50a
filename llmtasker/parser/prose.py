"""Whether a sentence affirms the label that it mentions: only within a few frames, and with no doubt or denial.

The frames are a closed list and the rest is refused, for there is no end of ways to say that a label is not meant.
All patterns are for text without capitals and accents.
"""

from __future__ import annotations

import re

_HEAD = (
    r"(?:label|category|answer|team|class|classification|topic|theme|intent|type|tag|sentiment|rating"
    r"|score|value|result"
    r"|output|response|prediction|department|subject|decision|verdict|conclusion|field|etiquette"
    r"|categorie|reponse|equipe"
    r"|classe|sujet|intention|note|valeur|resultat|service|rubrique|domaine)"
)
_ADVERB = (
    r"(?:indeed|clearly|definitely|certainly|obviously|probably|likely|most|more|best|mainly|mostly"
    r"|primarily|simply|just"
    r"|only|really|directly|specifically|bien|clairement|surement|certainement|probablement|surtout"
    r"|plutot|sans doute)"
)
# What may stand between a frame and its label: 'the category of', 'culture or'. Possessive, for hostile texts.
_FILLER = (
    rf"(?:{_ADVERB} |(?:the|an?|this|some|le|la|les|une?|des?|du) |(?:l'|d')|(?:\w+ )?{_HEAD} "
    rf"|called |of |de )*+"
    rf"(?:[\"'`*«“]*[\w/]+[\"'`*»”]*,? (?:or|and|ou|et) (?:the |an? )?)?"
)
_FRAME = re.compile(
    r"(?:\b(?:is|are|am|est|sont)|\b(?:it|that|this|what|there)'s|\bc'est|\b(?:should|must|will) be"
    r"|\b(?:seems?|appears?)(?: to be)?|\b(?:semble|parait|doit)(?: etre)?"
    r"|\b(?:about|regarding|concerns?|concerning|(?:related|relates?|relating|pertains?|pertaining"
    r"|belongs?|belonging) to)"
    r"|\b(?:deals?|dealing) with|\b(?:falls?|fits?) (?:under|into|within|in)|\b(?:category|topic|subject"
    r"|field|class) of"
    r"|\b(?:categori[sz]|classif|label|tagg?|assign|rout)\w* (?:\w+ ){0,3}?(?:as|under|with|into|to)"
    r"|\bi(?:'d| would| will|'ll)? (?:say|choose|pick|select|answer|go with|call (?:it|this))"
    r"|\b(?:concerne(?:nt)?|releve(?:nt)? d|(?:porte|parle|traite)(?:nt)?(?: sur| d)|s'agit(?: bien)? d|au sujet d"
    r"|a propos d|liee?s? (?:au|a)|appartient (?:au|a)|je (?:dirais|choisis|choisirais|reponds))(?:e|u|es)?)"
    r"[\s:'\"`*«“(]+"
    rf"{_FILLER}[\"'`*«“( ]*(?:[\w ]+/)?$"
)
_HEADED = re.compile(
    rf"(?:^|[,;:.(>]|\b(?:the|my|its|la|le|ma|so|donc)\b)[\W_]*(?:[\w']+ ){{0,2}}{_HEAD}(?: is| est)?[\"'`*_ ]*[:=]"
    rf"[\s\"'`*_«“(\[]*$"
)
_IS_THE_ANSWER = re.compile(
    rf"[\"'`*»”) ]*(?:is|seems|est|semble)(?: to be| etre)? (?:the |la |le |l'|my |ma )(?:\w+ ){{0,2}}{_HEAD}\b"
)
_BOLD = re.compile(r"\*\*[\"'`]?$"), re.compile(r"[\"'`.]?\*\*")
_FIRST = re.compile(r"[\s\"'`*_#(\[«“\-•]*$")
_STOPPED = re.compile(r"[\"'`*_)\]»”]*\s*(?:[.,;!\n(]|[-–—]+\s|$)")
_OPENER = "(?:so|sure|ok|okay|yes|of course|here you go|i think|oui|bien sur|voici|voila|je pense)"
_OPENED = re.compile(rf"[\s\"'`*_#(\[«“\-•]*(?:(?:{_OPENER}|{_ADVERB})[ ,:!]++)*+[\s\"'`*_#(\[«“\-•]*")
_ALONE = re.compile(r"[\s\"'`*_#.,;:!|(){}\[\]«»“”‘’„\\\-•>→⇒=]*")
_ARROW = re.compile(r"(?:→|⇒|=>|->)[\s\"'`*]*$")

_NEGATION = (
    r"not(?! (?:only|just|merely)\b)|no(?! doubt\b)|nope|nor|neither|never|none|nothing|without|cannot"
    r"|rather than|instead of"
    r"|other than|anything but|everything but|all but|far from|opposite|apart from|aside from|besides?"
    r"|except\w*|exclud\w+"
    r"|unlike|avoid\w*|reject\w*|rule[sd]? out|wrong\w*|incorrect\w*|mistaken\w*|least|worst|last|little"
    r"|too \w+ to|unable|impossible|hardly|barely"
    r"|ne|pas|ni|aucune?|jamais|rien|sans(?! (?:aucun )?doute\b)|sauf|hormis|excepte|exclure|exclue?s?"
    r"|a part|loin d\w*"
    r"|(?:a l')?oppose|contraire|plutot que|au lieu d\w*|non(?! seulement\b)|evite[rz]?|fau(?:x|sse)"
    r"|incorrecte?|a tort|mauvaise?|pire|trop"
)
_DOUBT = (
    r"maybe|perhaps|possibly|conceivably|might|unlikely|improbable|doubt\w*(?<!no doubt)|unclear|unsure"
    r"|uncertain|difficult"
    r"|whether|if|unless|second choice|runner.up|alternatively|formerly|used to|guess\w*|(?:you|some|one"
    r"|they|people) (?:\w+ )?says?"
    r"|peut[ -]etre|eventuellement|possible(?:ment)?|pourrait|pourraient|difficile|incertaine?|douteu\w+"
    r"|doute que|si|s'il"
)
_CUE = re.compile(rf"\b(?:{_NEGATION}|{_DOUBT})\b|n't\b|\bn'|[❌✗✘✖🚫👎≠¬]|!=")
_TURN = re.compile(
    r"\b(?:but|however|mais|cependant|toutefois|instead(?! of)|rather(?! than)|plutot(?! que)|therefore"
    r"|donc|so|thus|hence)\b"
    r"|, (?:it|this|c'est|il s'agit|elle|cela)\b"
)
# Behind these comes a reason or something else; that may well have a negation in it.
_GOES_ON = re.compile(
    r"\b(?:because|as|since|for|and|or|which|who|that|where|car|parce|puisque|comme|et|ou|qui|dont)\b"
)
# Said anywhere, it holds for the whole answer.
_NOT_SURE = re.compile(
    r"\b(?:not (?:\w+ )?(?:sure|certain)|unsure|no idea|don't know|do not know|(?:ne )?sais pas"
    r"|pas (?:\w+ )?(?:sure?|certaine?)\b)"
    r"|\b(?:that|this|it)(?:'s| is| was| would be) (?:\w+ )?(?:wrong|incorrect|a mistake)|\bc'est (?:faux"
    r"|incorrect|une erreur)"
    r"|\b(?:this|that|it) (?:isn't|is not) (?:it|right|correct)\b|\bce n'est pas (?:ca|cela|le cas)\b"
    r"|[.!;\n]\s*(?:or )?(?:no|not|non|nope)\b[.!]*\s*$"
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
# 'travel/music' with one of them no label: not decided. In quotes a name is meant as one, and only one exists.
_UNDECIDED = re.compile(r"[*]*/\w")
_UNDECIDED_BEFORE = re.compile(r"\w/$")
_QUOTED_BEFORE = re.compile(r"[\"'`«“](?:[\w ]+/)?\s*$")


_REACH = 150
"""Characters before a mention in which its frame must stand."""


def objection(text: str) -> str | None:
    """Return why no mention in the text counts, or None: it is not sure, or says that no label fits."""
    if (none := _NONE_FITS.search(text)) and not _FITS_AFTER_ALL.search(text, none.end()):
        return "it says that no label fits"
    return "it is not sure, or takes it back" if _NOT_SURE.search(text) else None


def affirms(mention: re.Match[str], *, first: bool) -> bool:
    """Tell whether the sentence (the string of the match) says that what it mentions is the answer.

    `first` tells that the sentence is the first of the text, which may begin with the answer.

    >>> affirms(re.search("billing", "it is about billing, i would say"), first=True)
    True
    >>> affirms(re.search("billing", "anything to do with billing"), first=True)
    False
    """
    before, after = mention.string[: mention.start()], mention.string[mention.end() :]
    opens = _ALONE.fullmatch(before) or _OPENED.fullmatch(before)
    if opens and (_ALONE.fullmatch(after) or (first and _STOPPED.match(after))):
        return True
    near = before[-_REACH:]
    if _FRAME.search(near) or _HEADED.search(near) or (_ARROW.search(near) and _STOPPED.match(after)):
        return True
    if _BOLD[0].search(before) and _BOLD[1].match(after):
        return True
    return _FIRST.fullmatch(before) is not None and _IS_THE_ANSWER.match(after) is not None


def denies(mention: re.Match[str]) -> bool:
    """Tell whether the sentence (the string of the match) asks, doubts or denies what it mentions."""
    sentence = mention.string
    before, after = sentence[: mention.start()], sentence[mention.end() :]
    if sentence.rstrip().endswith("?"):
        return True
    if not _QUOTED_BEFORE.search(before) and (_UNDECIDED.match(after) or _UNDECIDED_BEFORE.search(before)):
        return True
    reason = _GOES_ON.search(after)
    if _CUE.search(after, 0, reason.start() if reason else len(after)):
        return True
    cues = list(_CUE.finditer(before))
    return bool(cues) and not _TURN.search(before, cues[-1].end())
