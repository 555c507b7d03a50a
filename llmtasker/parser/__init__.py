"""From the text of an answer to its value, with the list of repairs, or an error; never a guess.

read           the order in which all of these are tried
marks          reasoning and control marks around an answer
calls          function calls, also those written in a text
extract        where in a text an answer may be, parsed strictly
unwrap         the wrappings that LLMs put around an answer
mend_json      broken JSON; the only file that imports json_repair
loose_json     JSON with common mistakes, without json_repair
missing_quote  JSON in which one quote is missing
plain_fields   the intact fields of JSON that can't be repaired as a whole
tagged         answers in tags instead of JSON
coerce         a JSON value, coerced towards its type
scalars        how people write "nothing", and texts that look like numbers
labels         which label of a closed set a text means
prose          whether a sentence affirms the label that it mentions
answer_schema  the type of the answer, prepared
"""
