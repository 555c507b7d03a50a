"""A broken answer → the value that it means, with the list of what was done to it, or an error; never a guess.

reading     read: the order in which all this is tried
candidates  where in a text an answer may stand, parsed strictly
unwrapping  the wrappings that LLMs put around an answer
mending     the only file that loads json-repair
coercion     a JSON value, coerced towards its type
labels      which label of a closed set a text means
stance      whether a sentence affirms the label that it mentions
schema       what is known of the type beforehand
"""
