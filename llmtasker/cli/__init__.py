"""What `llmtasker demo` runs: a signature with its examples, and customer messages with gold labels."""
