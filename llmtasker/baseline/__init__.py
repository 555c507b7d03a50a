"""`"offline"`: an answer by comparing words with the examples. It is not a language model."""
