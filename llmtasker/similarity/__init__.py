"""Similarity of texts and labels, by character n-grams or by vectors that the user computes."""
