"""Chained steps: a plain async function over tasks, run over many inputs like one task.

pipeline         the decorator, and the Pipeline that it makes
arguments        an input → the arguments of the function
returned         what the function returns → the output, and its fields
storable_kind    which types files and requests can hold
sent_function    its function as a pickle holds it
used_values      the names in its code
pipeline_run     the rows of a run, a bounded number at a time
"""
