"""From inputs to Items: one input, a group of inputs, a run over many inputs, a batch job."""
