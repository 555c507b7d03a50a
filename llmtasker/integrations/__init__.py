"""Other systems, one file each, named after its vendor; nothing inside the package imports them.

opentelemetry, langfuse   observers that send what happens in runs as traces (span_sender)
langchain                 a task as a Runnable
sklearn                   a classification as an estimator
"""
