"""How far back a recurrent language model looks, and how far back its gradients reach."""
