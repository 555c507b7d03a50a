"""The largest file that OpenAI accepts; more rows become several batches of one job."""

MOST_ROWS = 50_000
MOST_BYTES = 200_000_000
