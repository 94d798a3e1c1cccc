"""Judging outputs: reads columns only, so it works on anyone's scores; writes figures and a report."""
