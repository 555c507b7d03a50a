"""JSON values and texts, independent of any task: one definition of parsing, writing, comparing and folding."""
