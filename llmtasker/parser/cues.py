"""Words that deny or doubt what they stand beside, language by language.

A word too many costs one more question to the LLM; a word too few gives a wrong label. All are compared without case
and accents, as `without_accents` folds a sentence.
"""

from __future__ import annotations

import re

from llmtasker.values.folding import without_accents
from llmtasker.values.lazy_pattern import lazy_pattern

_ENGLISH = (
    r"not(?! (?:only|just|merely)\b)|no(?! doubt\b)|nope|nor|neither|never|none|nothing|nobody|without|cannot|minus"
    r"|rather than|instead of|other than|any(?:thing)? but|everything but|all but|far from|nowhere near"
    r"|opposite|apart from|aside from"
    r"|besides?|except\w*|exclud\w+|unlike|avoid\w*|ignor\w+|reject\w*|refus\w*|den(?:y|ies|ied)|rule[sd]? out|wrong\w*"
    r"|false|incorrect\w*|mistake\w*|unknown|invalid|unsupported|least|less|lack\w*|absen\w+|worst|last|little|low"
    r"|almost|partly|partially|half|looks? like|too \w+ (?:to|for)|unable|impossible|hardly|barely|scarcely"
    r"|rarely|seldom|fail\w*|0 ?%|~~"
    r"|(?:is|are) (?:out|off)|(?:ai|do|does|did|is|was|are|wo|would|should|ca|could|has)nt"
    r"|maybe|perhaps|possibly|conceivably|might|toss.?up|coin.?flip"
    r"|(?:may|could) (?:\w+ )?(?:be|fit|belong|concern|argue|say|claim|think|pass)"
    r"(?! (?:\w+ )?(?:categori|classif|label|described))|unlikely"
    r"|steer\w* clear|in passing|a stretch|my (?:foot|eye|arse|ass|hat)"
    r"|improbable|doubt\w*(?<!no doubt)|unclear|unsure|uncertain|difficult|whether|if|unless|what about"
    r"|second(?: |-)(?:choice|best|most)|next best|runner.up|alternatively|formerly|used to|guess\w*"
    r"|(?:you|some|one|they|people|customer|client|user|everyone|everybody) (?:\w+ )?(?:says?|claims?|thinks?)"
)
_FRENCH = (
    r"ne|pas|ni|aucune?(?! doute\b)|jamais|rien|sans(?! (?:aucun )?doute\b)|sauf|hors|hormis|excepte|exclure"
    r"|exclue?s?|a part"
    r"|loin d\w*|(?:a l')?oppose|contraire|plutot que|au lieu d\w*|non(?! seulement\b)|evite[rz]?|fau(?:x|sse)"
    r"|incorrecte?|a tort|erreur|mauvaise?|pire|trop|m'etonnerait|penser|pensais|peut[ -]etre|peut etre|eventuellement"
    r"|mon (?:oeil|\u0153il)|possible(?:ment)?|pourrait|pourraient|difficile|incertaine?|douteu\w+|doute que|guere|zero"
    r"|a peine|rarement|nullement|aucunement|tout au plus"
    r"|si(?!(?:(?<=^si)|(?<=^\Wsi)),)|s'il"
)
_OTHERS = {
    "German": r"nicht?|nid|mitnichten|keineswegs|alles andere als|weit entfernt|kei|keis|koa|keen|bezweifle"
    r"|zweif\w+|schwerlich|nichts|nein|kein\w*"
    r"|weder|nie|niemals|nix|ohne|ausser|statt|anstatt|kaum|falsch\w*|gegenteil"
    r"|ausgeschlossen|un(?:klar|sicher|wahrscheinlich)|vielleicht|eventuell|evtl|moglich\w*|konnten?|wenn|ob|als ob",
    "Spanish": r"nunca|nada|lejos de|apenas|dudo|dudos[ao]|dificilmente|jamas|tampoco|ningun\w*|excepto|salvo"
    r"|excluid\w+|menos"
    r"|equivocad\w+|tal vez|quizas?|podria",
    "Italian": r"nessun\w*|niente|senza|dubito|difficilmente|micca|minga|mai|tranne|tutt'al\w*|altro che"
    r"|lungi d\w*|lontan[oa] d\w*|a malapena|eccetto|escluso|sbagliat\w+"
    r"|forse|potrebbe|magari",
    "Portuguese": r"nao|nada|longe d\w*|de (?:modo|forma|maneira) alg\w+|duvido|nem|nenhum\w*|exceto|errad\w+"
    r"|talvez|poderia",
    "Dutch": r"niet|gjin|niks|allesbehalve|allerminst|geenszins|verre van|amper|zelden|betwijfel|twijfel\w*"
    r"|geen|nooit|noch|zonder|behalve|onjuist|misschien|wellicht"
    r"|mogelijk|nee|nauwelijks",
    "Swedish, Danish, Norwegian, Icelandic": r"inte|ekki|ikki|inga?|inget|ikke|ingen|aldri[gh]?|nej|nei|ej|utan"
    r"|kanskj?e|muligens|neppe|knapp?a?s?t|allt? ann?[ae][td]t? (?:an|end|enn)|langt (?:i?fra|ifran)",
    "Finnish, Hungarian, Turkish": r"ei|eika|ehka|nem|talan|degil\w*|belki|yok|nincs\w*",
    "Polish, Czech": r"nie|bynajmniej|wcale|nigdy|bez|moze|ne(?:ni|jde|jedna)|nikdy|mozna|nesouvis\w+",
    "Romanian, Croatian, Latvian": r"nu|nije|nav",
    "Greek, Persian": r"δεν|μην|οχι|نیست",
    "Filipino, Haitian, Hindi, Swahili": r"pa|nahin?|sio|siyo",
    "Vietnamese, Indonesian": r"khong|chua|bukan|tidak|mungkin",
    "Russian, Ukrainian": r"не|нет|ни|никогда|отнюдь|вряд|едва|сомнева\w+|кроме|без|возможно|может|наверное|ні|немає",
}
# Denials that are also English words or abbreviations: they count where a sentence has no function word of English.
_HOMOGRAPHS = "sem|sin|net|nit|ned|nod|mica|hindi"
_ENGLISH_SENTENCE = lazy_pattern(
    r"(?<!\w)(?:the|this|that|these|those|and|about|with|from|which|concerns|belongs|because)(?!\w)"
)
# These languages write no spaces, or put the denial into the word.
_PARTS = (
    "不", "没", "沒", "非", "無", "无", "未", "怀疑", "懷疑", "难", "難", "怎", "唔", "排除", "除了", "可能", "也许",
    "或许", "或者", "还是", "吗", "嗎", "ない", "なく", "ません", "以外", "なかっ", "じゃね", "違", "ちが", "疑",
    "かもしれ", "異な", "とは別", "の逆", "真逆", "反対", "反面", "相反", "反义", "反義", "假的", "虚假",
    "伪", "偽", "异于", "다르", "다릅", "반대", "たぶん",
    "아니", "아님", "아닙", "않", "없", "못", "제외", "아마", "ليس", "غير", "لا ", "ربما",
    "לא", "אולי", "नहीं", "नहि", "शायद", "ไม่", "อาจ", "❌", "✗", "✘", "✖", "🚫", "👎", "≠", "¬",
)  # fmt: skip

_NOT_CHINESE_KIND = "(?<![类類级級性区區个個特])[别別]"  # "don't", but not in the words for category, gender, level

_WORDS = "|".join((_ENGLISH, _FRENCH, *map(without_accents, _OTHERS.values())))
_SIGNS = r"n't\b|\bn'|!=|\(\?\)"
_IN_ENGLISH = rf"(?<!\w)(?:{_WORDS})(?!\w)|{_SIGNS}"
_ELSEWHERE = rf"(?<!\w)(?:{_WORDS}|{_HOMOGRAPHS})(?!\w)|{_SIGNS}"
_BEYOND_WORDS = f"{_NOT_CHINESE_KIND}|{'|'.join(map(re.escape, map(without_accents, _PARTS)))}"
_CUES = {
    (ascii_only, english): lazy_pattern(words if ascii_only else f"{words}|{_BEYOND_WORDS}", re.ASCII * ascii_only)
    for english, words in ((True, _IN_ENGLISH), (False, _ELSEWHERE))
    for ascii_only in (True, False)
}


def cue_in(text: str) -> re.Pattern[str]:
    """Return the pattern of a word or sign that denies or doubts, for the letters and the language of a text.

    >>> bool(cue_in("keine ahnung").search("keine ahnung")), bool(cue_in("gewiss").search("gewiss"))
    (True, False)
    """
    return _CUES[text.isascii(), _ENGLISH_SENTENCE.search(text) is not None]
