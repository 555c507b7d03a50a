"""Whether a sentence gives the label that it mentions as its answer.

A label counts only where the words around it form a statement of an answer, from the beginning of its clause: nothing
before it is unknown. All other mentions (in a rule, a request, a doubt, in another language) do not count, and the LLM
is asked again.

| form      | example                                                        |
|-----------|----------------------------------------------------------------|
| headed    | 'Label: X', 'the best category for this text is X'             |
| about     | 'this text seems to be related to X', 'it falls under X'       |
| chosen    | 'I would go with X', 'route it to X'                           |
| first     | 'X is the right answer', 'the X team should handle this'       |
| alone     | 'X', 'a X issue', 'Option X', 'X, because …', 'X (charged twice)' |

Before a clause may stand what leads to it ('They paid twice, so …'). All patterns are for text in lower case without
accents.
"""

from __future__ import annotations

import re
from enum import IntEnum

from llmtasker.values.folding import without_accents
from llmtasker.values.lazy_pattern import lazy_pattern

# What denies or doubts a word. The forms below leave little room for it: an adverb, a relative clause, a remark behind.
CUE = lazy_pattern(
    r"(?<!\w)(?:not(?! (?:only|just|merely)\b)|no(?! doubt\b)|none|nor|neither|never|nothing|without(?! (?:a "
    r"|any )?doubt\b)|cannot|hardly"
    r"|barely"
    r"|scarcely|rarely|seldom|wrong\w*|fals\w+|incorrect\w*|mistake\w*|exclud\w+|except|reject\w*|crossed|struck"
    r"|removed|if"
    r"|unless|whether|may (?:\w+ )?be|maybe|might|perhaps|possibl[ey]|doubt\w*|un(?:likely|sure|certain|clear)|least"
    r"|partly|default|runner|candidate|second|third|last|alternative|copied|quoted|former\w*|previous\w*|old"
    r"|initial\w*|guess\w*|says|said|thought|claim\w*|alleged\w*|suppos\w+|in passing"
    r"|(?:another|different) (?:context|case|situation)"
    r"|ne|pas|ni|jamais|rien|sans(?! (?:aucun )?doute\b)|non(?! seulement\b)|fau(?:x|sse)|peut[ -]etre(?! \w+e\b)"
    r"|ancien(?:ne)?s?|guere|a peine|nein|nicht?|kein\w*|nie|weder|ohne|kaum|falsch\w*|vielleicht|nunca|tal vez"
    r"|quizas?|nao|talvez|forse|niet"
    r"|geen|misschien)(?!\w)|n't\b|\bn'|!=|\(\?\)|~~|[❌✗✘✖🚫👎⛔🛑➖🗑≠¬]"
)
_CLOSE = r"[\"'`*_)\]}»”」$]*"
_OPEN = r"(?:[\"'`*_(\[{«“「$]|\\(?:text|boxed|mathrm|mathbf)\s*\{)*"
_DET = (
    r"(?:(?:the|this|that|my|our|an?|l[ae]s?|ce(?:tte|t)?|m[ao]n|une?|des?|du|d(?:er|ie|as|en|em)|diese[rsm]?"
    r"|eine[rnm]?"
    r"|meine?|el|il|het|een|os?) |[ld]')"
)
_ADVERBS = (
    r"(?:(?:(?:clear|plain|main|most|primari|certain|definite|obvious|undoubted|like|probab|sure|simp|tru|real"
    r"|direct|actual"
    r"|specifical|close|strong)ly|best|most|more|also|thus|therefore|hence|so|then|indeed|surtout|clairement"
    r"|surement|bien|donc"
    r"|sans (?:aucun )?doute|klar|eindeutig|also|daher),? )*"
)
_NATIVE_HEADS = "|".join(map(without_accents, ("答案", "正解", "类别", "類別", "分类", "分類", "หมวดหมู่")))
_NATIVE = "|".join(map(without_accents, ("это", "이 메시지는", "هذه الرسالة عن")))
_HEAD = (
    r"(?:answer|choice|option|label|category|class|classification|letter|team|department|topic|theme|intent|sentiment"
    r"|tone|verdict|conclusion|rating|score|result|output|prediction|decision|reponse|choix|categorie|etiquette|lettre"
    r"|code|size|share|level|type|priority|language|status|grade|classe|equipe|valeur|antwort|kategorie|klasse"
    r"|buchstabe|wahl|ergebnis"
    rf"|respuesta|opcion|categoria|etiqueta|etichetta|risposta|resposta|antwoord|kategoria|danh muc|{_NATIVE_HEADS})"
)
_GOOD = (
    r"(?:(?:most|more|la plus|le plus|overall) )?(?:correct|right|best|final|appropriate|suitable|fitting|likely"
    r"|relevant"
    r"|accurate|main|primary|predicted|assigned|chosen|selected|overall|new|corrected|bonn?e?|meilleure?|finale?"
    r"|correcte"
    r"|choisie?|richtige|beste|passende|endgultige|correcta|corretta|correta|mejor|migliore)"
)
# Nouns that a label before them describes as the topic: 'a billing issue', but not 'a billing address'.
_KIND = (
    rf"(?:{_HEAD}|issue|problem|question|matter|request|query|complaint|subject|aspect|angle|side|area|domain|field"
    r"|section|genre|tag|content|context|focus|nature|part|element|desk|group|thing|service|probleme|demande|sujet"
    r"|aspect"
    r"|domaine|rubrique|departement|opinion|review|emotion|feeling|message|text|comment|feedback)s?"
)
_TEXT = (
    r"(?:(?:given|above|customer|user|customer's|user's|news) )?(?:(?:piece of )?(?:news|information)|article|texte?"
    r"|message|ticket|e-?mail|courriel|review|avis|comment|commentaire|question|request|demande|statement|sentence"
    r"|phrase|tweet|post|issue|problem|complaint|query|inquiry|document|conversation|one|nachricht|anfrage|bewertung"
    r"|kommentar|messaggio|mensagem|mensaje|bericht|texto|testo)(?: about \w+(?: \w+){0,3}?)?"
)
_SUBJECT = rf"(?:it|this|that|c'|ce|cela|ca|il|elle|es|das|dies|si,? |dit|{_DET}?(?:{_GOOD} )?(?:{_TEXT}|{_KIND}))"
_BE = (
    r"(?:is|are|'s|est|serait|ist|ware|es|e|(?:(?:would|must|should|will) be)|(?:seems?|appears?)(?: to be)?"
    r"|semble(?: etre)?"
    r"|scheint)"
)
_PUT = (
    r"(?:categori[sz]ed?|classif(?:y|ied)|label+(?:ed)?|tag(?:ged)?|mark(?:ed)?|filed?|put|placed?|described?|handled"
    r"|processed|resolved|routed?|sen[dt]|assign(?:ed)?|forward(?:ed)?|class[ei]e?|transmis|traitee?|geree?|adressee?)"
)
_INTO = r"(?:as|under|in|into|by|to|comme|dans|en|par|a|aux?|vers)"
_ABOUT = r"(?:about|regarding|concerning|related to|relating to|lie a|concernant|relatif a|sobre|uber|um)"
_CONCERNS = (
    r"(?:concern(?:s|e)|regards|relat(?:es|ing) to|refers to|pertains to|belongs (?:to|in|under)|has to do with|matches"
    r"|(?:(?:can|could|would|should) )?(?:falls?|comes?|goes|fits?)(?: \w+ly| best)? (?:under|into|in|within|with"
    r"|to)|fits"
    r"|describes|discusses|covers|deals with|talks about|speaks of|expresses|conveys|exprime|releve|porte sur|parle"
    r"|traite|appartient a|s'agit(?: bien)?|correspond a|(?:entre|tombe) dans|betrifft|geht um|handelt von"
    r"|(?:gehort|fallt) (?:zu|zur|zum|unter|in)|bezieht sich auf|trata|pertenece a|pertence a|se refiere a|riguarda"
    r"|tratta"
    r"|gaat over|betreft|относится к)"
)
_TO = rf"(?:d[eo] |d')?{_ADVERBS}{_DET}?(?:{_KIND}\s*(?:of|for|de|du|:|{_ABOUT})?\s+)?{_DET}?{_OPEN}"
_OF = rf"(?: {_GOOD})?(?: (?:of|for|de|du|pour|fur) {_DET}?{_TEXT})?"
_SAID = r"(?:it (?:seems|appears) (?:like|that) |(?:i (?:would |'d )?(?:think|believe|say) )(?:that )?)?"
_LINK = rf"(?:[\"'`*_]*\s*(?:{_BE}\b|lautet|是|为|為|は|[:=：—–]|->|→)[\s:=*_]*)"
_CHOOSE = (
    r"(?:(?:i|we|je|ich|eu|yo|io)(?:'d|'m|'ll| would| am| will)? (?:choos(?:e|ing)|pick|select|say|go(?:ing)? with"
    rf"|call (?:it|this)|choisis|choisirais|dirais|wahle|elijo|scelgo"
    rf"|(?:categori[sz]e|classify|label|tag|mark|file|put|place|describe|route|send|assign) (?:it|this"
    rf"|{_DET}{_TEXT}) {_INTO}"
    rf"|classe(?:rais)? (?:\w+ ){{0,2}}{_INTO})|(?:route|assign|send|forward) (?:it|this|{_DET}{_TEXT}) to|{_NATIVE})"
)
_SO = r"(?:so|thus|therefore|hence|however|but|mais|sondern|donc|ainsi|daher|somit|deshalb)"
_PICTURE = "\u2300-\u27bf\u2b00-\u2bff\u200d\ufe0f\U0001f000-\U0001faff"
_LEAD = (
    rf"[\s\"'`*_>#|•·{_PICTURE}]*(?:[-–*•]\s+)?(?:(?:{_SO}|sure|ok|okay|of course|yes|(?:no|without (?:a "
    rf"|any )?) ?doubt"
    r"|here you go|(?:here(?: i|')s (?:the|my)|voici (?:la|le|ma|mon)) \w+"
    r"|overall|in (?:summary|conclusion|short)|voici|voila|oui|bien sur|en resume|ja|sans (?:aucun )?doute"
    rf"|(?:plain|clear|definite|certain|obvious)ly|clairement)[\s,:!.]+)*[\s\"'`*_{_PICTURE}]*"
)
_CONDITION = (
    r"(?:if|unless|when\w*|where\w*|while|assuming|provided|suppos\w+|imagin\w+|had|should|for|in other|si|s'il"
    r"|sauf|quand"
    r"|pour|wenn|falls|sofern|according to|selon|d'apres|laut|cuando)\b"
)
# What may stand before a clause: the reasons for it, or what it corrects.
_BEFORE = lazy_pattern(
    rf"[\s\"'`*_]*(?:(?!{_CONDITION})[^:?]*?(?:,(?!\s*\w+\s*,)|[;\n(–—]) ?(?:and |et |und )?"
    rf"{_SO}\b,?"
    r"|(?:based on|after (?:reading|analy[sz]ing|reviewing)|given|considering|as|since|because|comme|puisque"
    r"|etant donne|vu|da|weil)\b[^:;?]*,"
    rf"|(?:it|this|that|not|ce|c'|il|es|das)\b[^:;?,]*,(?= (?:it|this|c'|il s'|es|das)\b))\s+"
)
_RELATIVE = lazy_pattern(rf"(?!{_CONDITION})[^:;?]*, (?=which )")

_END = rf"{_CLOSE}[\s.!。|{_PICTURE}]*$"
_NAMED_BY = rf"(?:{_KIND}|{_TEXT})"
# A reason or a remark follows these words, so that what comes before them is whole.
_REASON = (
    r"(?:because|since|as (?:it|the|this|they)|for|and|but|which|with|given|due|based|in|on|of|rather|specifically"
    r"|about"
    r"|regarding|concerning|especially"
    r"|car|puisque|parce|et|qui|dont|mais|plutot|weil|denn|da|und|porque|ya|y|perche|poiche|want|omdat)"
)
_PRONOUN = r"(?:it|this|these|they|the|that is|il|elle|c'est|ce(?:tte|t|ci)?|la|les?|es|das|die|der)"
_CAUSE = (
    r"(?:because|since|as (?:it|the|this|they)|given|due to|based on|car|puisque|parce|weil|denn|da|porque|perche"
    r"|omdat)"
)
_BRACKET = r"\s*[(\[](?=[^()\[\]]* )[^()\[\]]*[)\]]"  # of one word, such as 'billing (old)', it may say anything
_SURE = (
    r"(?:true|yes|i(?: woul|')d say|(?:high )?confidence|confiance|score"
    r"|[\d.,/]+ ?(?:%|sure|confiden\w+|certain|\s)*\W*$)"
)
_STOPS = without_accents("です|입니다")
_WHOLE = lazy_pattern(
    rf"{_CLOSE}(?: {_NAMED_BY})?(?:{_END}|\s*(?:{_STOPS})|{_BRACKET}"
    rf"|\s*[,:;(–—-]*\s*(?:{_REASON}|{_PRONOUN}|{_SURE})(?!\w))"
)
_ENDS = lazy_pattern(rf"{_END}|{_CLOSE}(?:{_STOPS})")
_KIND_ENDS = lazy_pattern(rf" ?{_KIND}{_END}")
_EXPLAINED = lazy_pattern(
    rf"{_CLOSE}(?: {_KIND})?(?:\s*[,:;(–—-]\s*(?:(?:{_REASON}|{_PRONOUN}|{_SURE})(?!\w)|{_KIND}\s*(?:$|[.,;!?]))"
    rf"|,? {_CAUSE}\b|{_BRACKET}[\s.!]*$|\s+[–—-]\s+\w+(?: \w+){{2}})"
)
_LISTED = lazy_pattern(rf"[)\]]\s|{_CLOSE}\s*(?:[.,;:!\n](?!\d)|[-–—]+ |\()")
_IS_THE_ANSWER = lazy_pattern(
    rf"{_CLOSE}(?: {_KIND})? (?:{_BE}) {_ADVERBS}(?:correct|right|(?:the |my |l[ae]s? |d(?:er|ie"
    rf"|as) )(?:{_GOOD} ?)*(?:{_HEAD}|fit|match)?)"
    rf"(?={_END}|,? {_CAUSE})"
)
_TAKES_IT = lazy_pattern(
    rf"{_CLOSE}(?:\s+{_KIND})?\s+(?:should|must|needs to|has to|doit|devrait)"
    rf" (?:handle|process|resolve|traiter|gerer) (?:this|it|ce(?:tte|t|ci)?)(?: {_NAMED_BY})?"
    r"(?:[\s.!]*$|,? (?:because|since|as|car|puisque)\b)"
)
_WORD = lazy_pattern(r"\w")
_SIGNS = ("-", "+", "−", "°", "!", "~", "≤", "≥", "≈", "±", "¬", "≠")  # before a label that they change
_NUMBERED = lazy_pattern(r"[.)]|:\d")  # '3. because', '4:30'
_OTHER_BEFORE = lazy_pattern(rf"\s(?:or|ou|oder)\s+{_DET}?{_OPEN}$")
# 'billing: 0.02', 'billing (confidence 0.1)', 'billing: 2/10', 'billing: off'
_LOW = lazy_pattern(
    rf"{_CLOSE}(?:\s*[:=(,]\s*|\s+)(?:(?:confidence|confiance|score|probabilit\w+|p)\b\s*[:=]?\s*)?(?:off"
    rf"|(?:0(?:[.,][0-4]\d*)?"
    rf"|[0-4](?:[.,]\d+)?\s*/\s*10|[1-4]?\d(?:[.,]\d+)?\s*(?:%|/\s*100)))\s*(?:$|[,;).](?!\d))"
)
# A reason or something else follows these words, and may contain a negation.
_GOES_ON = lazy_pattern(
    r"\b(?:because|as|since|for|and|or|which|who|that|where|car|parce|puisque|comme|et|ou|qui|dont"
    r"|weil|denn)\b"
)
# What follows these words contradicts what came before.
_TURNS_AWAY = lazy_pattern(
    r"\b(?:but|however|although|though|yet|mais|cependant|pourtant|aber|jedoch|pero|mas|maar|но)\b|但|しかし|ですが"
)
# 'No, this is not spam' says the same twice, but 'No, it is not known' and 'No, I can't say' leave it open.
_SAYS_AGAIN = lazy_pattern(
    r", (?:(?:(?:it|that)'s not|(?:it|this|that|they|these|the) (?:\w+ )?(?:is|are|was)(?:n't| not))"
    r"(?! (?:\w+ )*(?:\w+(?:ed|able|ible)|known|given|said|told|shown|clear|certain|sure|obvious|evident|enough"
    r"|sufficient|explicit|apparent|definite|definitive|easy|conclusive|text|message)\b)"
    r"|(?:c|(?:il|elle|ce(?:tte|t|la)?|le|la|ca) (?:\w+ )?n)'est pas (?:une?|du|de la)"
    r"|(?:es|das|dies|die|der) (?:\w+ )?ist keine?)(?P<rest>(?: \w+){1,4})[\s.!,]*"
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
    r"|[.!;\n]\s*(?:or )?(?:no|not|non|nope|incorrect|wrong)\b[.!]*\s*$"
    r"|[.!;\n]\s*(?:(?:no|non|nope|correction|sorry)\b[,:.!]|(?:no,? )?(?:wait|actually|attends|en fait)\b)"
    r"|\bi doubt (?:it|that|this)\s*(?:$|[.!,;\n])|\bj'en doute\b|[.!;\n]\s*(?:hm+,? )?(?:maybe|perhaps) not\b"
    r"|\btake (?:that|it) back\b|\bscratch that\b|\b(?:kidding|joking|jokes?|plaisante|rigole|blague)\b"
)
_NONE_FITS = lazy_pattern(
    r"(?:\b(?:not|no|cannot|ne|none)\b|n't\b|\bn')[^.!?\n]{0,60}"
    r"\b(?:any|aucune?|of the|des|specific)\b[^.!?\n]{0,40}\b(?:categor|label|class|topic|option|theme|etiquette)"
    r"|\bno (?:\w+ )?(?:label|category|class|option|topic)s? (?:really |quite |exactly )?(?:appl|fit|match|suit)"
    r"|\bnone of (?:these|those|them|the above)\b|\bkeine (?:der|dieser|von)\b"
)
_EXAMPLE = lazy_pattern(
    r"\W*(?:(?:for|an?|par|une?|zum|ein|por|un) )?(?:example|instance|exemple|beispiel|ejemplo|e\.g|z\.b)\b"
)
NO_ANSWER = lazy_pattern(
    rf"(?:\b{_HEAD}\b[^.,;:!?\n]{{0,20}}?(?:\b(?:is|est|ist|es)\b|[:=]|->|→)|^)[\s:=]*{_OPEN}"
    r"(?P<word>no|non|nope|nein|none|neither|nothing|null|unknown|n/a|no (?:label|category|class|option|answer|match)"
    rf"|aucune?(?: \w+)?|rien|inconnue?|keine?[rs]?|nichts|ningun[ao]?|nessun[ao]?|nenhuma?){_CLOSE}\s*(?:[.;!\n]|$)",
    re.MULTILINE,
)
"""An answer that is not a label, such as 'final answer: none.', unless a label has this name (`word`)."""


_HEADED = rf"{_SAID}{_DET}?(?:{_GOOD} )*{_HEAD}(?: {_HEAD})?{_OF} ?{_ADVERBS}{_LINK}{_TO}"
_IS_ABOUT = (
    rf"{_SAID}{_SUBJECT}\s?{_ADVERBS}(?:{_BE}[\s:]+{_ADVERBS}(?:(?:an?|the|une?) (?:\w+ ){{1,6}}?(?={_ABOUT}))?"
    rf"(?:{_ABOUT} |{_PUT} {_INTO} |(?:in|under|for|pour|fur) )?|{_CONCERNS} ?"
    rf"|(?:can|could|should|must|may|peut|doit|devrait) (?:be|etre) {_ADVERBS}{_PUT} {_INTO} ){_TO}"
)
_STATED = lazy_pattern(
    rf"{_LEAD}(?:{_HEADED}|{_IS_ABOUT}|{_CHOOSE}:? (?:it is |it's )?{_TO}|\#{{2,}} *{_OPEN})|\W*\\boxed\s*\{{{_OPEN}"
    rf"|(?!{_CONDITION})[^:;?]*(?:->|→|=>|⇒) *{_OPEN}"
)
_WHICH = lazy_pattern(rf"which (?:{_BE} (?:{_ABOUT} |{_PUT} {_INTO} )|{_CONCERNS} )?{_TO}")
_ALONE = lazy_pattern(rf"{_LEAD}{_DET}?(?:{_HEAD} )?{_OPEN}")
_ARTICLED = lazy_pattern(rf"{_LEAD}(?P<some>(?:an?|this|une?|cette|eine?) )?(?(some)|{_DET}){_OPEN}")
_TURNED = lazy_pattern(rf"(?:{_ABOUT} |de |d')?{_DET}?{_OPEN}")


class Statement(IntEnum):
    """How clearly a sentence states a label."""

    NONE = 0
    ALONE = 1  # 'B', 'B) a loan'
    ANSWER = 2  # 'the answer is B'


def statement(sentence: str, start: int, end: int, *, short: bool = False, first: bool = True) -> Statement:
    """Return how clearly a sentence states its word `[start:end]` as the answer.

    `short` is whether the word may be any other word or letter, `first` whether this is the first sentence of the text.

    >>> statement("it falls under the category of billing", 31, 38).name, statement("a billing issue", 2, 9).name
    ('ANSWER', 'ALONE')
    >>> statement("hau ez da billing", 10, 17).name, statement("old label: billing", 11, 18).name
    ('NONE', 'NONE')
    """
    before, after = sentence[:start], sentence[end:]
    if before.endswith(_SIGNS) or _is_taken_back(sentence, start, end):
        return Statement.NONE
    lead = _BEFORE.match(before)
    clauses = [before, before[lead.end() :]] if lead else [before]
    whole = _WHOLE.match(after) or (short and _LISTED.match(after))
    for clause in clauses:
        if CUE.search(clause):
            continue
        if whole and _STATED.fullmatch(clause):
            return Statement.ANSWER
        if (_IS_THE_ANSWER.match(after) or _TAKES_IT.match(after)) and _ALONE.fullmatch(clause):
            return Statement.ANSWER
    if whole and (relative := _RELATIVE.match(before)) and not CUE.search(before):
        return Statement.ANSWER if _WHICH.fullmatch(before[relative.end() :]) else Statement.NONE
    if lead and whole and _TURNED.fullmatch(clauses[1]):
        return Statement.ANSWER
    if CUE.search(before) or not _ALONE.fullmatch(before):
        return Statement.NONE
    numbered = sentence[start:end].isdigit() and _NUMBERED.match(after)
    if articled := _ARTICLED.fullmatch(before):  # 'a billing issue', but not 'the billing section'
        alone = not short and bool(_ENDS.match(after) or (articled["some"] and _KIND_ENDS.match(after)))
    else:
        alone = _is_alone(after, short=short, first=first) and not numbered
    return Statement.ALONE if alone else Statement.NONE


def _is_alone(after: str, *, short: bool, first: bool) -> bool:
    """Return whether nothing but a noun of topics or a reason follows a word that nothing precedes."""
    if _ENDS.match(after) or (first and _EXPLAINED.match(after)):
        return True
    return bool(first and _LISTED.match(after)) if short else _KIND_ENDS.match(after) is not None


def _is_taken_back(sentence: str, start: int, end: int) -> bool:
    """Return whether the words after the word `[start:end]` question, doubt or deny it, or add an alternative to it."""
    after = sentence[end:]
    if sentence.rstrip().endswith("?") or _LOW.match(after) or _TURNS_AWAY.search(after):
        return True
    reason = _GOES_ON.search(after)
    stated = after[: reason.start() if reason else None]
    if not CUE.search(stated):
        return False
    again = _SAYS_AGAIN.fullmatch(stated)
    return (
        not again
        or bool(CUE.search(again["rest"]))
        or not CUE.fullmatch(sentence[start:end])
        or bool(_WORD.search(sentence[:start]))
    )


def denies(sentence: str, start: int) -> bool:
    """Return whether a sentence that does not state its label, at `start`, may deny it or add an alternative to it."""
    before = sentence[:start]
    return before.endswith(_SIGNS) or _OTHER_BEFORE.search(before) is not None or CUE.search(sentence) is not None


def objection(text: str) -> str | None:
    """Return why no mention in the text counts, or None: it is not sure, gives an example, or no label fits."""
    if _NONE_FITS.search(text):
        return "no label fits, by its own words"
    if _EXAMPLE.match(text):
        return "it is an example"
    return "it is not sure, or takes it back" if _NOT_SURE.search(text) else None
