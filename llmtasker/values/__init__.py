"""JSON values, texts and arguments, independent of any task: parsed, checked, written, compared and folded once."""
