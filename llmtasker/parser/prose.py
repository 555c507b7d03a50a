"""How a sentence uses the label that it mentions: states it as the answer, or doubts or negates it.

All patterns are for text in lower case without accents: in English, French and German, denials in more languages.
"""

from __future__ import annotations

import re
from enum import IntEnum

from llmtasker.parser.cues import cue_in
from llmtasker.values.folding import without_accents
from llmtasker.values.lazy_pattern import lazy_pattern

TURN = lazy_pattern(
    r"\b(?:but(?! for\b)|mais|sondern)\b|, (?:it|this|c'est|il s'agit|elle|cela)\b(?! \w+,)"
    r"|(?:^|,(?!\s*\w+\s*,)|[;:.\n(–—])\s*(?:(?:and|et|und) )?"
    r"(?:however|cependant|toutefois|instead(?! of)|rather(?! than)|plutot(?! que)|therefore|donc|so(?! to s)|thus"
    r"|hence|aber|jedoch|stattdessen)\b"
)
"""Words that contrast what follows with what came before, most of them only at the beginning of a clause.

In "it is not so" and "it does not, however, concern" they belong to the denial.
"""
# A reason or something else follows these words, and may contain a negation.
_GOES_ON = lazy_pattern(
    r"\b(?:because|as|since|for|and|or|which|who|that|where|car|parce|puisque|comme|et|ou|qui|dont"
    r"|weil|denn)\b"
)
# What follows these words contradicts what came before.
_TURNS_AWAY = lazy_pattern(
    r"\b(?:but|however|although|though|yet|mais|cependant|pourtant|aber|jedoch|pero|mas|maar|но)\b|但|しかし|ですが"
)
# These apply to the whole answer, wherever they occur.
_NOT_SURE = lazy_pattern(
    r"\b(?:not (?:\w+ )?(?:sure|certain)|unsure|no idea|don't know|do not know|(?:ne )?sais pas"
    r"|pas (?:\w+ )?(?:sure?|certaine?)\b|nicht (?:\w+ )?sicher|weiss (?:es )?nicht"
    r"|i (?:cannot|can't|can not|could not|couldn't|will not|won't|am unable to) "
    r"(?:\w+ )?(?:classif|categori|determin|decid|answer|assist|help))"
    r"|\b(?:that|this|it|which)(?:'s| is| was| would be) (?:\w+ )?(?:wrong|incorrect|a mistake|false|untrue)"
    r"|\bc'est (?:faux|incorrect|une erreur)"
    r"|\b(?:this|that|it) (?:isn't|is not) (?:it|right|correct)\b|\bce n'est pas (?:ca|cela|le cas)\b"
    r"|[.!;\n]\s*(?:or )?(?:no|not|non|nope)\b[.!]*\s*$"
    r"|[.!;\n]\s*(?:(?:no|non|nope|correction|sorry)\b[,:.!]|(?:no,? )?(?:wait|actually|attends|en fait)\b)"
    r"|\bi doubt (?:it|that|this)\s*(?:$|[.!,;\n])|\bj'en doute\b"
    r"|\btake (?:that|it) back\b|\bscratch that\b|\b(?:kidding|joking|jokes?|plaisante|rigole|blague)\b"
)
_NONE_FITS = lazy_pattern(
    r"(?:\b(?:not|no|cannot|ne|none)\b|n't\b|\bn')[^.!?\n]{0,60}"
    r"\b(?:any|aucune?|of the|des|specific)\b[^.!?\n]{0,40}\b(?:categor|label|class|topic|option|theme|etiquette)"
    r"|\bno (?:\w+ )?(?:label|category|class|option|topic)s? (?:really |quite |exactly )?(?:appl|fit|match|suit)"
    r"|\bnone of (?:these|those|them|the above)\b|\bkeine (?:der|dieser|von)\b"
)
# 'no category fits; it is about gold, which falls under the category of …'
_FITS_AFTER_ALL = lazy_pattern(
    r"\b(?:falls?|fits?|belongs?|releve|entre) (?:under|into|in|to|de|dans) (?:the |la )?"
    r"(?:category|class|label|categorie|classe)"
)
_EXAMPLE = lazy_pattern(
    r"\W*(?:(?:for|an?|par|une?|zum|ein|por|un) )?(?:example|instance|exemple|beispiel|ejemplo|e\.g|z\.b)\b"
)
# 'No, this is not spam' says the same twice, but 'No, it is not known' and 'No, I can't say' leave it open.
_SAYS_AGAIN = lazy_pattern(
    r", (?:(?:(?:it|that)'s not|(?:it|this|that|they|these|the) (?:\w+ )?(?:is|are|was)(?:n't| not))"
    r"(?! (?:\w+ )*(?:\w+(?:ed|able|ible)|known|given|said|told|shown|clear|certain|sure|obvious|evident|enough"
    r"|sufficient|explicit|apparent|definite|definitive|easy|conclusive|text|message)\b)"
    r"|(?:c|(?:il|elle|ce(?:tte|t|la)?|le|la|ca) (?:\w+ )?n)'est pas (?:une?|du|de la)"
    r"|(?:es|das|dies|die|der) (?:\w+ )?ist keine?)(?P<rest>(?: \w+){1,4})[\s.!,]*"
)
_ROUGHLY = lazy_pattern(r"\b(?:about|um|uber|sobre)\W*$")  # before a number
_CLAUSE = lazy_pattern(rf"[,;]\s|{TURN.pattern}")
_CLOSE = r"[\"'`*_)\]}»”」$]*"
_OPEN = r"[\"'`*_(\[{«“「$]*"
_OTHER_AFTER = lazy_pattern(rf"{_CLOSE}\s*(?:/\s*|,?\s(?:or|ou|oder)\s+){_OPEN}\w")
# 'billing: 0.02', 'billing (confidence 0.1)', 'billing: 2/10', 'billing: off'
_LOW = lazy_pattern(
    rf"{_CLOSE}(?:\s*[:=(,]\s*|\s+)(?:(?:confidence|confiance|score|probabilit\w+|p)\b\s*[:=]?\s*)?(?:off|(?:0(?:[.,][0-4]\d*)?"
    rf"|[0-4](?:[.,]\d+)?\s*/\s*10|[1-4]?\d(?:[.,]\d+)?\s*(?:%|/\s*100)))\s*(?:$|[,;).](?!\d))"
)
_STRUCK = lazy_pattern(rf"(?:^|[\s:(])[!~]{_OPEN}$")  # '!billing'
_OTHER_BEFORE = lazy_pattern(
    rf"\w{_CLOSE}\s*(?:/\s*|,?\s(?:or|ou|oder)\s+){_OPEN}(?:(?:the|an?|la|les?|une?|des?) |(?:l'|d'))?$"
)

_HEAD = (
    r"(?:answer|choice|option|label|category|class|letter|team|verdict|conclusion|rating|score|result|prediction"
    r"|decision|reponse|choix|categorie|etiquette|lettre|classe|equipe|note|valeur"
    r"|antwort|kategorie|klasse|buchstabe|wahl|respuesta|opcion|categoria|risposta|resposta)"
)
_ANSWER = lazy_pattern(
    rf"(?:\b{_HEAD}\b[^.,;:!?\n]{{0,40}}?(?:\b(?:is|est|ist|lautet|es|must be)\b|'s\b|[:=]|->|→)"
    r"|\b(?:choose|pick|select|go with|choisis|choisirais|wahle)\b|答案(?:是|为|為|:)"
    r"|\\boxed\s*\{|(?:^|\n)\s*#{2,}|→|⇒|=>|->)"
    rf"[\s:=]*{_OPEN}(?:(?:the|la|le) )?(?:{_HEAD}\s+)?(?:\\(?:text|boxed|mathrm|mathbf)\s*\{{)?{_OPEN}$"
)
NO_ANSWER = lazy_pattern(
    rf"(?:\b{_HEAD}\b[^.,;:!?\n]{{0,20}}?(?:\b(?:is|est|ist|es)\b|[:=]|->|→)|^)[\s:=]*{_OPEN}"
    r"(?P<word>no|non|nope|nein|none|neither|nothing|null|unknown|n/a|no (?:label|category|class|option|answer|match)"
    rf"|aucune?(?: \w+)?|rien|inconnue?|keine?[rs]?|nichts|ningun[ao]?|nessun[ao]?|nenhuma?){_CLOSE}\s*(?:[.;!\n]|$)",
    re.MULTILINE,
)
"""An answer that is not a label, such as 'final answer: none.', unless a label has this name (`word`)."""
_IS_THE_ANSWER = lazy_pattern(
    rf"{_CLOSE}(?:\s+{_HEAD})?\s+(?:is|seems|est|semble)\s+(?:to be |etre )?(?:the |la |le |my )?(?:\w+ )?"
    rf"(?:correct|right|best|correcte|bonne|{_HEAD})\b"
)
_NAMED = lazy_pattern(rf"^[\W_]*(?:\w+ ){{0,3}}{_OPEN}$")
# 'Option B' as the first words, and then a stop.
_HEADED = lazy_pattern(rf"[\W_]*(?:(?:the|my|la|le|ma|mon) )?{_HEAD}\s+{_OPEN}")
_STOP = lazy_pattern(
    rf"[)\]]\s|{_CLOSE}\s*(?:[.,;:!?\n。]|$|\(|[-–—]+\s|(?:because|since|as|car|puisque|parce|which|and|et)\b)"
)
_NO_WORDS = lazy_pattern(r"(?:[^\w+]|_)*")
_COLON = lazy_pattern(rf"(?:[:：]|\s[—–])\s*{_OPEN}\s*$")
_END = lazy_pattern(rf"{_CLOSE}[\s.!。✅✓✔]*$")
_MARKED_BEFORE = lazy_pattern(r"(?:[\"`*(\[«“]|(?<!\w)'|[:=]|\b(?:is|est))\s*$")
_MARKED_AFTER = lazy_pattern(r"\s*(?:[\"'`*)\]»”.,;!]|$)")
_NO_LETTER = ("-", "+", "−", "°", "!", "~", "≤", "≥", "≈", "±")  # before a letter that is not a label
_ABBREVIATED = lazy_pattern(r"['’]\w|\.\w\b")  # 'c'est', 'e.g.'
_CONDITION = lazy_pattern(
    r"[\W_]*(?:if|unless|assuming|provided|suppos\w+|imagin\w+|had (?:he|she|it|they|the)|si(?!,)|s'il"
    r"|sauf si|wenn|sofern"
    r"|(?:according to|selon|d'apres|laut) (?:the |le |la |dem |der )?(?:customer|client|user|kund))"
    r"(?! (?:i|you|we) (?:had|have|must|need)\b| (?:forced|pressed|asked)\b)"
)
# 'a common error is X' is not about this text.
_GENERAL = lazy_pattern(
    rf"[\W_]*(?:an?|une?|eine?) [^,;:.]*\b(?:is|would be|est|serait|ist)[\s:]+"
    rf"(?:(?:the|an?|la|le|les|der|die|das) |l')?{_OPEN}"
)
_OPENER = lazy_pattern(
    r"[\W_]*(?:(?:so|sure|ok|okay|of course|here you go|oui|bien sur|voici|voila|ja|also|clairement"
    r"|(?:plain|clear|definite|certain|obvious)ly)[\s,:!]+)*[\W_]*"
)


# Nouns that a label before them describes as the topic: 'a billing issue', but not 'a billing address'.
_NAMING = (
    rf"(?:{_HEAD}|issue|problem|question|matter|request|query|complaint|topic|theme|subject|aspect|angle|side|area|domain"
    r"|field|section|genre|tag|content|context|focus|nature|part|element|department|desk|group|one|stuff|thing"
    r"|service|probleme|demande|sujet|aspect|domaine|rubrique|departement)s?"
)
_NAMED_BY = rf"(?:{_NAMING}|(?:sentiment|tone|opinion|review|emotion|feeling|message|text|comment|feedback)s?)"
# What the sentence is about is this text: refunds that billing handles in general are not.
_SUBJECT = (
    rf"(?:it|this|that|cela|ca|il|elle|(?:(?:the|this|le|la|ce(?:tte|t)?) |l')(?:{_NAMED_BY}|texte|avis"
    r"|commentaire|ticket|e?-?mail|courriel))"
)
# A reason or a remark follows these words, so that what comes before them is whole.
_REASON = (
    r"(?:because|since|as|for|and|but|which|that|who|with|given|due|based|in|on|of|rather|specifically|especially|than"
    r"|possibly|car|puisque|parce|et|qui|dont|mais|plutot|weil|denn|da|und|porque|ya|y|perche|poiche|want|omdat)"
)
_PUT = (
    r"(?:categori[sz]\w*|classif\w*|label\w*|tag\w*|mark\w*|filed?|put|placed?|listed|describ\w*|identif\w*)"
    r" (?:\w+ ){0,4}"
)
# The words right before a label by which a sentence states the kind of a text.
_LINKS = {
    "English": r"is|are|was|be|(?:it|that|this)'s|about|regard(?:s|ing)|concern(?:s|ing|ed with)|relat(?:ed|es|ing) to"
    r"|refers to|pertain(?:s|ing) to|belongs? (?:to|in|under)|has to do with|fits|matches|describes?|discusses|covers"
    r"|(?:falls?|comes?|goes|fits?|deals?)(?: \w+ly)? (?:under|into|in|within|with)|(?:talks|speaks) of|suggests"
    r"|indicates|so|therefore|thus|hence|(?:it|this|that)(?: one)?(?:'s| is| goes) (?:for|to)"
    r"|i(?:'d|'m| would| am)? (?:say|choose|pick|go(?:ing)? with|think|call (?:it|this))"
    rf"|{_SUBJECT} (?:expresses|conveys"
    r"|(?:should|must|needs to|has to|will) be (?:\w+ )?(?:handled|processed|resolved) by)"
    rf"|(?:route|assign|send|forward)\w*(?: \w+){{0,3}} to|{_PUT}(?:as|under|in|into)|{_NAMING} (?:of|for|is)",
    "French": r"est|serait|sont|concern(?:e|ent|ant)"
    rf"|{_SUBJECT} (?:exprime|(?:doit|devrait|devra) etre (?:(?:traite|gere)e? par"
    r"|(?:transmi|envoy|adress|orient|dirig)\w+ (?:a|au|aux|vers)))"
    r"|releve(?:nt)? d[eu]|porte sur|parle d[eu]|traite d[eu]|appartient a|lie a"
    r"|(?:s'agit|question) (?:bien )?(?:de|du|d'une?)|correspond a"
    r"|(?:entre|tombe|class\w+(?: \w+){0,3}) (?:dans|comme|en)"
    rf"|dirais|choisis|evoque|donc|comme|sans (?:aucun )?doute|c'est pour|{_NAMING} (?:de|du)",
    "German": r"ist|betrifft|um|uber|(?:gehort|zahlt) (?:zu|zur|zum)|fallt (?:unter|in)|handelt von|bezieht sich auf"
    r"|(?:das|dies|es) ist fur",
    "Spanish, Portuguese, Italian": r"es|si, e|tratar?(?: \w+)? d[eo]|sobre|pertenece a|pertence a|(?:fala|habla) d[eo]"
    r"|refiere a|riguarda|tratta di"
    r"|(?:categoria|etichetta|etiqueta|messaggio|mensagem|risposta|resposta|testo|texto) e",
    "Dutch": r"gaat over|betreft|hoort bij",
    "Russian": r"это|относится к|о|об|про|категории",
    "Arabic": r"عن|حول|هي|هو|بخصوص",
}
_PARTICLES = "|".join(map(without_accents, ("是", "为", "為", "属于", "屬於", "关于", "關於", "は", "이", "는", "은")))
_ADVERBS = (
    r"(?:(?:(?:clear|plain|main|primari|most|certain|definite|obvious|undoubted|like|probab|sure|simp|tru|real|direct)ly"
    r"|best|most|more|also|surtout|clairement|surement|sans doute|klar|eindeutig) ){0,2}"
)
_ARTICLE = (
    r"(?:(?:the|an?|this|le|la|les|une?|des?|du|einen?|eine[rm]?|der|die|das|de[nm]|el|los|una|os?|il|het|een) |l'|d')?"
)
_LINKED = lazy_pattern(
    rf"(?:(?<![^\W_])(?:{'|'.join(_LINKS.values())})[\s:]+{_ADVERBS}{_ARTICLE}(?:{_NAMING}\s*(?:of|de|:)?\s+)?{_ARTICLE}"
    rf"|(?:{_PARTICLES})\s*){_OPEN}$"
)
_WHOLE = lazy_pattern(rf"{_CLOSE}\s*(?:$|[^\w\s'+-]|[-–—] |[^\x00-\x7f]|(?:{_REASON}|{_NAMED_BY})(?!\w))")
_ARTICLED = lazy_pattern(rf"[\W_]*{_ARTICLE}{_OPEN}")
_KIND_FOLLOWS = lazy_pattern(rf"{_CLOSE}\s*(?:{_NAMED_BY})?(?:[^\w+?]|_)*$")
# 'the billing team should handle this' and no more, apart from a reason
_ITS_NAME = lazy_pattern(
    rf"(?:.*, (?=(?:so|therefore|donc) ))?[\W_]*(?:(?:so|thus|therefore|hence|donc),? )?(?:(?:the|la|les?) |l')?{_OPEN}"
)
_TAKES_IT = lazy_pattern(
    rf"{_CLOSE}(?:\s+{_NAMING})?\s+(?:should|must|needs to|has to|doit|devrait)"
    rf" (?:handle|process|resolve|traiter|gerer) (?:this|it|ce(?:tte|t|ci)?)"
    rf"(?: {_NAMED_BY})?\s*(?:[.!]*\s*$|,? (?:because|since|as|car|puisque)\b)"
)
_EXPLAINED = lazy_pattern(
    rf"{_CLOSE}\s*(?:[,:;(–—-]\s*)?(?:[\d.,/%]+\W*$|{_NAMED_BY}\s*(?:$|[.,;:!?])"
    rf"|(?:{_REASON}|it|this|these|they|the|confidence|confiance|score|il|elle|c'est|ce(?:tte|t|ci)?|le|la|les|es|das|die"
    r"|der)(?!\w))"
)
# The heading of the input, of an example or of the choices, not an answer.
_NO_HEAD = lazy_pattern(
    r"[\W_]*(?:\w+ ){0,2}?(?:message|input|text[eo]?|values?|(?:available|allowed|possible) \w+|nachricht|mensaje"
    r"|eingabe|entree|entrada|example|exemple|beispiel|ejemplo|e\.g|z\.b|ex|quote|citation|zitat|words?|options?|choices|candidates?"
    r"|question|user|customer|client|kunde|before|earlier|old|avant|vorher|opposite)\b[^:]{0,20}:"
)


class Frame(IntEnum):
    """How clearly a sentence marks a word as its answer."""

    NONE = 0
    MARKED = 1  # in quotes, brackets or bold, after a colon, or first and followed by a stop
    ANSWER = 2  # 'the answer is X', 'Option X is right'


def frame(sentence: str, start: int, end: int, *, first: bool) -> Frame:
    """Return how the sentence frames its word `[start:end]`; `first` if it is the first sentence of the text.

    >>> frame("the answer is (b)", 15, 16, first=True).name
    'ANSWER'
    >>> frame("it is a metal", 6, 7, first=True).name
    'NONE'
    """
    before, after = sentence[max(0, start - 150) : start], sentence[end:]
    if _ABBREVIATED.match(after):
        return Frame.NONE
    stopped = _STOP.match(after) is not None
    if stopped and _ANSWER.search(before):
        return Frame.ANSWER
    if _IS_THE_ANSWER.match(after) and _NAMED.search(before):
        return Frame.ANSWER
    numbered = sentence[start:end].isdigit() and after[:1] in (".", ":", ",", ")") and before[-1:] != "("
    if numbered or before.endswith(_NO_LETTER):
        return Frame.NONE  # the number of a paragraph, or a sign that makes it another word
    if _OPENER.fullmatch(before):
        return Frame.MARKED if (stopped and first) or _END.match(after) else Frame.NONE
    if first and stopped and _HEADED.fullmatch(before):
        return Frame.MARKED
    return Frame.MARKED if _MARKED_BEFORE.search(before) and _MARKED_AFTER.match(after) else Frame.NONE


def is_stated(sentence: str, start: int, end: int) -> bool:
    """Return whether a sentence states that a text is, or is about, its word `[start:end]`.

    A word is only mentioned if no such phrase precedes it, or if it describes another noun.

    >>> is_stated("it falls under the category of billing", 31, 38), is_stated("it is a billing issue", 8, 15)
    (True, True)
    >>> is_stated("hau ez da billing", 10, 17), is_stated("it is a billing address", 8, 15)
    (False, False)
    """
    before = sentence[:start]
    linked = _LINKED.search(before) and _WHOLE.match(sentence, end)
    takes_it = _TAKES_IT.match(sentence, end) and _ITS_NAME.fullmatch(before)
    return bool(linked or takes_it) and not _NO_HEAD.match(before)


def stands_apart(sentence: str, start: int, end: int, *, listed: bool) -> bool:
    """Return whether a sentence consists only of the word `[start:end]`, apart from a heading such as 'kategória:'.

    A reason may follow a word that comes first; with `listed`, as in 'B) Budapest', any text may.

    >>> stands_apart("kategoria: billing", 11, 18, listed=False)
    True
    >>> stands_apart("hau ez da billing", 10, 17, listed=False)
    False
    """
    before, after = sentence[:start], sentence[end:]
    opens = _OPENER.fullmatch(before) or _HEADED.fullmatch(before)
    if opens and (listed or _EXPLAINED.match(after)):
        return True
    if _ARTICLED.fullmatch(before) and _KIND_FOLLOWS.match(after):
        return True  # 'a billing issue'
    headed = _COLON.search(before) and not _NO_HEAD.match(before)
    return bool(opens or headed) and _NO_WORDS.fullmatch(after) is not None


def objection(text: str) -> str | None:
    """Return why no mention in the text counts, or None: it is not sure, gives an example, or no label fits."""
    if (none := _NONE_FITS.search(text)) and not _FITS_AFTER_ALL.search(text, none.end()):
        return "no label fits, by its own words"
    if _EXAMPLE.match(text):
        return "it is an example"
    return "it is not sure, or takes it back" if _NOT_SURE.search(text) else None


def denies(sentence: str, start: int, end: int, *, clause: bool = False) -> bool:
    """Return whether the sentence questions, doubts or negates its word `[start:end]`, or adds an alternative to it.

    With `clause`, only the part of the same clause counts before the word.

    >>> denies("it is not about billing", 16, 23), denies("it is about billing", 12, 19)
    (True, False)
    """
    before, after = sentence[:start], sentence[end:]
    if sentence[start].isdigit() and (before.endswith(_NO_LETTER) or _ROUGHLY.search(before)):
        return True  # '-50%' is not 50%
    if _CONDITION.match(before) or _GENERAL.fullmatch(before):
        return True
    if clause:
        before = before[max((match.end() for match in _CLAUSE.finditer(before)), default=0) :]
    if (
        sentence.rstrip().endswith("?")
        or any(beside.match(after) for beside in (_OTHER_AFTER, _LOW))
        or _OTHER_BEFORE.search(before)
        or _STRUCK.search(before)
    ):
        return True
    if _TURNS_AWAY.search(after):
        return True
    reason = _GOES_ON.search(after)
    cue = cue_in(sentence)
    stated = after[: reason.start() if reason else None]
    if cue.search(stated):
        again = _SAYS_AGAIN.fullmatch(stated)
        if (
            not again
            or cue.search(again["rest"])
            or not cue.fullmatch(sentence[start:end])
            or not _OPENER.fullmatch(before)
        ):
            return True
    cues = list(cue.finditer(before))
    if not cues:
        return False
    turn = TURN.search(before, cues[-1].end())
    return turn is None or not before[cues[-1].end() : turn.end()].rpartition(" ")[0].strip()  # 'not but …'
