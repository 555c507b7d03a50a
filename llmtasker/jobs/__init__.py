"""Jobs: rows and their items on disk, so that work survives the process that does it.

chosen_columns  which column each input is read from
row_work        what marks a row of a task as done, for the command line and for the server alike
pipeline_work   the same for a row of a pipeline
job_state       a job, and the states that it goes through
job_queue       the jobs of a server, in one SQLite file (job_file) with their rows (job_rows)
correction_reports  pass corrections on to observers
job_runner      does what is left to do in a queue
"""
