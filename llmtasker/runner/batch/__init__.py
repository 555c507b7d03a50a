"""The provider's batch API: many rows in a file, answered within a day at a lower price.

job            BatchJob: its state, and its answers as Items
submit         rows → batches at the provider, each distinct row once
output_files   the provider's files → the answer or the error of each row
file_limits    what the provider takes in one file
job_store      the jobs that were submitted, so that they are found again
"""
