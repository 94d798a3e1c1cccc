"""Runs side by side: what they reached, whether they differ by more than chance, what sets them apart, their cost."""
