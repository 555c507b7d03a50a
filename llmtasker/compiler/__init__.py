"""A signature, its prompt and its examples → a Program: everything that does not depend on the input, done once."""
