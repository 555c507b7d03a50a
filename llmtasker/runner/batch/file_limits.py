"""What OpenAI takes in one file; more rows become several batches of one job."""

MOST_ROWS = 50_000
MOST_BYTES = 200_000_000
