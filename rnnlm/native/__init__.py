"""Our own machine code for what stands between matrix products, on a CPU; optional, torch can do all of it."""
