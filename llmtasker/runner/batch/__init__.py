"""The provider's batch API: many rows in a file, answered within a day at a lower price.

job       BatchJob: where it stands; its answers as Items
dispatch  rows → batches at the provider, each distinct row once
harvest   the provider's files → what came of each row
ledger    which batches there are, so that a job is found again
"""

from llmtasker.runner.batch.job import BatchJob, BatchStatus

__all__ = ["BatchJob", "BatchStatus"]
