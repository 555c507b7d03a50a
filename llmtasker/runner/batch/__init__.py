"""The provider's batch API: many rows in a file, answered within a day at a lower price.

job            BatchJob: its state, and its answers as Items
submit         rows → batches at the provider, each distinct row once
output_files   the provider's files → the answer or the error for each row
file_limits    the largest file that the provider accepts
job_store      the records of submitted jobs, so that a later process finds them
"""
