"""JSON values and texts, apart from any task: what is valid, written, compared and folded here is so everywhere."""
