"""Rules: what may be generated, given what a hypothesis has generated so far. One rule a file."""
