"""Chained steps: a plain async function over tasks, run over many inputs like one task.

pipeline         the decorator, and the Pipeline that it makes
arguments        an input → the arguments of the function
returned         what the function returns → the output, and its fields
used_values      the names in its code
sent_function    the function as a pickle holds it
used_values      what its code names
pipeline_run     the rows of a run, a bounded number at a time
"""
