"""Jobs: rows and their items on disk, so that work survives the process that does it.

chosen_columns  the column from which each input is read
row_work        how a row of a task is recognised as done, for the command line and the server
pipeline_work   the same for a row of a pipeline
typed_answers   stored answers with the types of their fields, for files with types
job_state       a job and its states
job_queue       the jobs of a server, in one SQLite file (job_file) with their rows (job_rows)
correction_reports  pass corrections on to observers
job_runner      does the remaining work of a queue
"""
