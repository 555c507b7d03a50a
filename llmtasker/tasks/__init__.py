"""Ready-made tasks: each builds a signature and is a Task."""
