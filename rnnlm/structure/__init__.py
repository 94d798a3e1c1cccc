"""Dynamic programs on tensors of scores: pure functions, no modules, no parameters."""
