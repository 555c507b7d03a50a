"""Words that deny or doubt what a sentence states, in the languages whose statements `prose` recognises. A superfluous
word costs one more call to the LLM; a missing word gives a wrong label. Words are compared after `without_accents`, so
case and accents do not matter. A denial between the statement and the label, as in "it is anything but billing", needs
no word here, because `prose` does not recognise it as a statement.
"""

from __future__ import annotations

import re

from llmtasker.values.folding import without_accents
from llmtasker.values.lazy_pattern import lazy_pattern

_WORDS = {
    "English": r"not(?! (?:only|just|merely)\b)|no(?! doubt\b)|nope|nor|neither|never|none|nothing|nobody|without"
    r"|cannot|hardly|barely|scarcely|rarely|seldom|exclud\w+|avoid\w*|ignor\w+|reject\w*|refus\w*|den(?:y|ies|ied)"
    r"|rule[sd]? out|wrong\w*|fals\w+|erroneous\w*|incorrect\w*|mistake\w*|invalid|least|less|worst|last|little|unable"
    r"|impossible|fail\w*|(?:ai|do|does|did|is|was|are|wo|would|should|ca|could|has)nt|maybe|perhaps|possibly|might"
    r"|(?:may|could) (?:\w+ )?(?:be|fit|belong|concern|argue|say|claim|think|pass)"
    r"(?! (?:\w+ )?(?:categori|classif|label|described))|unlikely|improbable|doubt\w*(?<!no doubt)|unclear|unsure"
    r"|uncertain|toss.?up|whether|if|unless|second(?: |-)(?:choice|best|most)|former\w*|previous\w*|original(?:ly)?"
    r"|initial(?:ly)?|used to|guess\w*|too \w+ (?:to|for)|says|said|told|claim\w*|insist\w*|thinks|thought"
    r"|(?:you|some|one|they|people|everyone) (?:\w+ )?(?:say|think|call|classify|label)|wants? me to"
    r"|far from|opposite of|contrary to|disagree\w*|myth|stop(?:s|ped)? being|pretend\w*|allegedly|supposedly"
    r"|ostensibly|reportedly|in passing|alternative is|runners?.up|competing (?:label|categor|class)\w*"
    r"|(?:another|different) (?:context|case|situation)"
    r"|(?:one|some|any|each) of|(?:one|an?) (?:\w+ )?(?:option|choice|candidate|possibility)",
    "French": r"ne|pas|ni|aucune?(?! doute\b)|jamais|rien|sans(?! (?:aucun )?doute\b)|non(?! seulement\b)|fau(?:x|sse)"
    r"|incorrecte?|mauvaise?|pire|erreur|a tort|exclue?s?|peut[ -]etre(?! \w*(?:class|categ|rang|consid))"
    r"|possibles?|possiblement|ancien(?:ne)?s?|pourrai(?:t|ent)|incertaine?|douteu\w+|doute que"
    r"|guere|a peine|rarement|nullement"
    r"|(?<!je )(?:pense|croit)|croirai\w+|pretend\w*|soi-disant"
    r"|si(?!(?:(?<=^si)|(?<=^\Wsi)),)|s'il",
    "German": r"nicht?|kein\w*|nie|niemals|nichts|nein|weder|ohne|kaum|keineswegs|falsch\w*|bezweif\w+|zweif\w+"
    r"|meint|glaubt|denkt|behaupte\w*|angeblich|ausgeschlossen|un(?:klar|sicher|wahrscheinlich)|vielleicht|moglich\w*|konnten?|wenn|ob",
    "Spanish": r"nunca|nada|jamas|tampoco|ningun\w*|dudo|quizas?|tal vez|podria|equivocad\w+",
    "Italian": r"nessun\w*|niente|mai|dubito|forse|potrebbe|sbagliat\w+",
    "Portuguese": r"nao|nem|nenhum\w*|duvido|talvez|poderia|errad\w+",
    "Dutch": r"niet|geen|nooit|noch|niks|nee|zonder|twijfel\w*|betwijfel|misschien|wellicht|onjuist",
    "Arabic": r"ليس\w*|غير|لا|لم|لن|ربما",
    "Scandinavian": r"inte|ikk[ei]|ekki",  # `prose` reads their "um" ("about")
    "Russian, Ukrainian": r"не|нет|ни|ні|никогда|вряд|сомнева\w+|возможно|может|наверное|немає",
}
# These languages write no spaces between words, or negate inside a word.
_PARTS = (
    *"不没沒非無无未难難怎疑反假伪偽异異違唔或吗嗎❌✗✘✖🚫👎≠¬", "可能", "排除", "除了", "还是", "還是", "也许", "如果",
    "ない", "なく", "なかっ", "ません", "以外", "ちが", "かもしれ", "でしょうか", "たぶん",
    "아니", "아님", "아닙", "않", "없", "못", "다르", "다릅", "반대", "아마",
)  # fmt: skip
_NOT_CHINESE_KIND = "(?<![类類级級性區区個个特])[别別]"  # "don't", but not in the words for category, gender, level

_IN_ASCII = rf"(?<!\w)(?:{'|'.join(map(without_accents, _WORDS.values()))})(?!\w)|n't\b|\bn'|!=|\(\?\)|~~"
_ASCII = lazy_pattern(_IN_ASCII, re.ASCII)
_ANY = lazy_pattern(f"{_IN_ASCII}|{_NOT_CHINESE_KIND}|{'|'.join(map(re.escape, map(without_accents, _PARTS)))}")


def cue_in(text: str) -> re.Pattern[str]:
    """Return the pattern of the words and signs that deny or doubt, for the script of a text.

    >>> bool(cue_in("keine ahnung").search("keine ahnung")), bool(cue_in("gewiss").search("gewiss"))
    (True, False)
    """
    return _ASCII if text.isascii() else _ANY
