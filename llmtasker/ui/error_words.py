"""Errors in the language of the page: what happened, with the values, and what to do."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from llmtasker.ui.page_language import PageLanguage
from llmtasker.values.error_causes import CAUSES
from llmtasker.values.lazy_pattern import lazy_pattern

_LATER = "Ask the failed rows again later: all other answers are kept."
_SERVED = "Contact the person who runs this server."
_HERE = "Correct the row here, or make the instructions clearer and ask it again."
ADVICE = {
    **dict.fromkeys(("transient", "rate_limit", "timeout", "network", "server", "bad_response", "call"), _LATER),
    **dict.fromkeys(("authentication", "not_found", "rejected", "bad_request", "pipeline"), _SERVED),
    **dict.fromkeys(("invalid", "output", "refusal", "truncated"), _HERE),
    "budget": "Ask the failed rows again.",
    "not_run": "Ask the failed rows again.",
    "input": "Correct the row in your file, and upload the file again.",
    "context_length": "Shorten the text, or choose a model that accepts longer ones.",
    "filtered": "Correct the row here.",
}
"""What a person can do about an error, by its code."""

_VALUE = r"\(got (?P<got>.+?)\)(?=; |$|\.)"
_FIELD = r"(?:^|; |: )(?P<field>[^\s:;]+): "
_WRONG_LABEL = r"labels?(?:\.\d+)?: Input should be "
SENTENCES: tuple[tuple[str, str], ...] = (
    (
        rf"^example (?P<number>\d+) does not fit \w+: {_WRONG_LABEL}.*? {_VALUE}",
        "Example {number}: {got} is not one of the labels.",
    ),
    # answers
    (r"^the answer is empty", "The LLM sent an empty answer."),
    (r"^there are (?:several|two) different answers", "The LLM gave several answers that differ."),
    (r"characters and is not JSON: (?P<text>.+)$", "The LLM did not answer in the required form: {text}"),
    (r"cut by the token limit after (?P<count>[\d,]+)", "The answer was cut off after {count} characters."),
    (r"cut (?:after|inside)", "The answer was cut off before its end."),
    (r"stops inside its reasoning", "The LLM reasoned for so long that no answer came."),
    (r"^the LLM declined: (?P<text>.+)$", "The LLM refused: {text}"),
    (
        r"its confidence is (?P<sure>[\d.]+), and the threshold is (?P<limit>[\d.]+)",
        "The confidence of the answer is {sure}, below the {limit} that the task requires.",
    ),
    (
        rf"^{_WRONG_LABEL}['\d].*? {_VALUE}",
        "The LLM answered {got}, which is not one of the labels.",
    ),
    # values that do not fit
    (rf"{_FIELD}Input should be (?P<wanted>['\d].*?) {_VALUE}", "{field}: {got} is not one of {wanted}."),
    (rf"{_FIELD}Input should be a valid integer.*? {_VALUE}", "{field}: {got} is not a whole number."),
    (rf"{_FIELD}Input should be a valid number.*? {_VALUE}", "{field}: {got} is not a number."),
    (rf"{_FIELD}Input should be a valid boolean.*? {_VALUE}", "{field}: {got} is neither yes nor no."),
    (rf"{_FIELD}Input should be a valid string.*? {_VALUE}", "{field}: {got} is not text."),
    (rf"{_FIELD}Input should be a valid (?:date|time).*? {_VALUE}", "{field}: {got} is not a date or a time."),
    (rf"{_FIELD}Input should be a valid (?:list|tuple|set|dictionary)", "{field}: write the value as JSON."),
    (
        rf"{_FIELD}Input should be greater than.*? (?P<limit>[-\d.]+) {_VALUE}",
        "{field}: {got} is too small; the limit is {limit}.",
    ),
    (
        rf"{_FIELD}Input should be less than.*? (?P<limit>[-\d.]+) {_VALUE}",
        "{field}: {got} is too large; the limit is {limit}.",
    ),
    (rf"{_FIELD}List should have at least (?P<count>\d+)", "{field}: at least {count} must be named."),
    (r"^labels: \S+ should have at most (?P<most>\d+)", "The limit is {most} labels."),
    (r"^examples: \S+ should have at most (?P<most>\d+)", "The limit is {most} examples."),
    (r"^output: \S+ should have at most (?P<most>\d+)", "The limit is {most} fields."),
    (r"^instructions: \S+ should have at most (?P<most>\d+)", "The instructions may have at most {most} characters."),
    (rf"{_FIELD}\S+ should have at most (?P<most>\d+) (?:items?|characters?)", "{field}: {most} at most."),
    (rf"{_FIELD}Field required", "{field}: the value is missing."),
    # repairs
    (r"^taken from a code block", "The answer was in a code block."),
    (r"^taken from the text after the reasoning", "The answer came after some reasoning."),
    (r"(?:^|: )taken (?:from|as) ", "The answer was written in another form than requested."),
    (r"^fixed JSON", "A small mistake in the form of the answer was repaired."),
    (r"^cut before the next turn", "What the LLM wrote after its answer was left out."),
    (r"^removed the mark", "A mark around the answer was left out."),
    (r"^(?P<field>[^\s:]+): the key was written (?P<got>'.+')", "{field}: the LLM called it {got}."),
    (r"^(?P<field>[^\s:]+): (?P<got>'.+') read as (?P<read>.+)$", "{field}: {got} was read as {read}."),
    (r"^(?P<field>[^\s:]+): not asked for, left out", "{field}: this field was not asked for, and was left out."),
    # rows of the file
    (r"^(?P<field>[^\s:]+): the text is empty", "The text is empty ({field}): nothing was sent."),
    (r"has no column (?P<name>'.+?')", "The row has no column {name}."),
    (
        r"^line (?P<line>[\d,]+) has (?P<cells>[\d,]+) cells?, the header has (?P<columns>[\d,]+)",
        "Line {line} of the file has {cells} {cells:cell|cells}, the header {columns}.",
    ),
    (r"^line (?P<line>[\d,]+) is not valid JSON", "Line {line} is not valid JSON."),
    (
        r"^line (?P<line>[\d,]+) can't be read as CSV",
        "Line {line} can't be read: a quote inside a quoted text must be doubled.",
    ),
    (r"^(?:line|element) (?P<line>[\d,]+) is an? \w+, not an object", "Row {line} is not an object with its columns."),
    (r"^line (?P<line>[\d,]+) is not (?P<encoding>\S+)$", "Line {line} can't be read as {encoding}."),
    (
        r"^row (?P<line>[\d,]+) has a value in a column without a name",
        "Row {line} has a value in a column without a name.",
    ),
    # files
    (r"is an Excel or zip file, not", "The file is an Excel file or an archive, despite its name: save it as .xlsx."),
    (r"is a Parquet file, not", "The file is a Parquet file, despite its name: name it .parquet."),
    (r"is a gzip file", "The file is compressed: unpack it first."),
    (r"is a PDF, not", "The file is a PDF, despite its name: copy its texts into a table first."),
    (r"not an Excel file", "The file is not an Excel file, despite its name, or it has a password."),
    (r"not a Parquet file", "The file is not a Parquet file, despite its name."),
    (r"^can't read the file as (?P<kind>Parquet|an Excel)", "The file is damaged: save it again."),
    (
        r"^it has (?P<size>[\d,]+) bytes unpacked; the limit is (?P<most>[\d,]+)",
        "The file has {size} bytes unpacked; the limit is {most}.",
    ),
    (r"^can't read the column (?P<name>'.*?')", "The column {name} can't be read."),
    (r"has no sheet (?P<name>'.*?'); it has (?P<known>.+?)\.?$", "The file has no sheet {name}; it has {known}."),
    (
        r"^can't read the header of the file",
        "The line with the column names can't be read: a quote in it is not closed.",
    ),
    (r"looks like UTF-16", "The file looks like UTF-16 without a byte order mark: save it as UTF-8."),
    (r"can't be read as (?P<encoding>[\w-]+)", "The file can't be read as {encoding}: choose another encoding."),
    (r"^the file is not valid JSON", "The file is not valid JSON."),
    (r"^the delimiter must be one character", "The separator must be one character."),
    (r"^several columns look like (?P<name>'.+?'): ", "Several columns look like {name}: rename one of them."),
    (r"there is no column (?P<name>'.+?'); the columns are", "The file has no column {name}."),
    (
        r"^an Excel sheet has at most (?P<most>[\d,]+) (?:rows|columns)",
        "An Excel sheet is too small for this: use the CSV.",
    ),
    (r"^an Excel sheet can't exceed 2 GB", "An Excel sheet is too small for this: use the CSV."),
    # calls
    (r"came within (?P<seconds>[\d.]+) s", "The LLM did not answer within {seconds} s."),
    (r"^the built-in baseline", "The built-in baseline can only choose among labels: this task needs an LLM."),
    # what is refused on the page
    (r"^there are no labels", "There are no labels yet: give at least one."),
    (r"^There is no such page", "There is no such page."),
    (r"^the address has a wrong (?P<name>'.*?')", "The address of the page has a wrong value: {name}."),
    (r"^(?:There is no such file|Nothing is served at this path)", "There is no such page."),
    (r"^(?:The body did not arrive|Too little arrived) in", "The file did not arrive in time: try again."),
    (r"^the label (?P<name>'.*?') appears twice", "The label {name} appears twice."),
    (r"^(?P<name>'.*?') appears twice", "{name} appears twice."),
    (r"^a label is a text that is not empty", "A label must not be empty."),
    (r"has no instructions", "There are no instructions yet: describe what to do with each text."),
    (r"^An example has one value for each field", 'Write the answer of an example as JSON: {{"name": "…"}}.'),
    (r"^The file has no rows", "The file has no rows."),
    (
        r"^The file has (?P<count>[\d,]+) columns; the limit is (?P<most>[\d,]+)",
        "The file has {count} columns; the limit is {most}.",
    ),
    (
        r"(?:has|more than) (?P<most>[\d,]+) rows\. Send it",
        "The file has more than {most} rows: split it into several files.",
    ),
    (
        r"^The request has (?P<count>[\d,]+) rows; the limit is (?P<most>[\d,]+)",
        "There are {count} rows; your key allows at most {most} at a time.",
    ),
    (
        r"^A body has at most (?P<most>[\d,]+) bytes",
        "The file is larger than {most} bytes: split it into several files.",
    ),
    (r"^(?P<name>'.*?') is not read; send one of", "{name} is not read here: save the table as .xlsx or .csv."),
    (
        r"limit of (?P<cost>[\d.e+]+) a day",
        "Your key may spend {cost} US dollars a day, and has reached that limit for today.",
    ),
    (r"(?:no longer has|There is no) (?:the )?task (?P<name>'.*?')", "The server no longer has the task {name}."),
    (r"^model: (?P<name>'.*?') is not offered", "The model {name} is not offered here."),
    (
        r"takes several labels, so only \"votes\"",
        "With several labels, only the votes of five answers give a confidence.",
    ),
    (
        r"a value that is not among its labels, so only \"votes\"",
        "If other labels may be proposed, only the votes of five answers give a confidence.",
    ),
    (r"^an output field with labels needs", "A field with choices needs at least one choice."),
    (r"^Instruction has no input field", "A field can't be called “text”: the text of the row has this name."),
    (
        r"^\w+\.(?P<name>\w+): (?:a field can't begin|the name '.*?' has a special meaning)",
        "A field can't be called “{name}”: choose another name.",
    ),
    (r"^output: give one of (?P<known>.+?)\.?$", "The answer has only these fields: {known}."),
    (r"^No label was sent", "Choose a label first."),
    (r"task was changed since the job began", "The task was changed since the run began: start a new run."),
    (
        r"^the pipeline has no version",
        "The server was restarted, and this task has no version: all rows are asked again.",
    ),
    (r"^which column holds (?P<field>'.*?')\?", "Which column has {field}? Choose it in step 1."),
)
"""Patterns of error messages, and the sentence for each; the first match counts."""

_EXAMPLE = lazy_pattern(r"^example (?P<number>\d+) does not fit \w+: (?!" + _WRONG_LABEL + ")")
_COMPILED = tuple((lazy_pattern(pattern, re.DOTALL), sentence) for pattern, sentence in SENTENCES)
_QUOTED = lazy_pattern(r"'([^']*)'")
_DECIMAL = lazy_pattern(r"\d+\.\d+")


def reason(message: str, words: PageLanguage) -> str | None:
    """Return a message in the language of the page, with its values; None if no sentence fits."""
    if example := _EXAMPLE.match(message):
        why = reason(message[example.end() :], words)
        return None if why is None else words.text("Example {number}: {why}", number=example["number"], why=why)
    for pattern, sentence in _COMPILED:
        if found := pattern.search(message[:2_000]):
            values = {name: _written(value or "", words) for name, value in found.groupdict().items()}
            return words.text(sentence, **values)
    return None


def explained(error: Mapping[str, Any], words: PageLanguage) -> tuple[str, str | None]:
    """Return why a row failed, and what a person can do, from an error as an item has it."""
    code = str(error.get("code", ""))
    cause = words.text(CAUSES.get(code, CAUSES["call"])) + "."
    advice = ADVICE.get(code)
    return reason(str(error.get("message", "")), words) or cause, None if advice is None else words.text(advice)


def _written(value: str, words: PageLanguage) -> str:
    """Return a value of a message as the language writes it: 0,31 for 0.31, and no English "or" between choices."""
    if _DECIMAL.fullmatch(value):
        return words.number(float(value), 2)
    if value.replace(",", "").isdigit():
        return words.count(int(value.replace(",", "")))
    opened, closed = ("«\u00a0", "\u00a0»") if words.code == "fr" else ("“", "”")
    return _QUOTED.sub(f"{opened}\\1{closed}", value.replace("' or '", "', '"))
