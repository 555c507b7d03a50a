"""Other systems, one file each, named after its vendor; nothing else in the package imports them.

opentelemetry, langfuse   observers that send spans of runs: a tracer, and a meter for OpenTelemetry; over OTLP
                          (otlp_messages), each from its own thread (background_sender)
langchain                 a task as a Runnable
sklearn                   a classification as an estimator
ray                       a task over a Dataset; rate_shares: one rate limit for workers on several machines
partitions                a task as a function of parts of a table, for Ray, Spark and Dask
"""
