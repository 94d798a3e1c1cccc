"""The run-time check of annotations in tests: as mypy sees them, an int is fine where a float is asked for (PEP 484)."""

from beartype import BeartypeConf, beartype

check = beartype(conf=BeartypeConf(is_pep484_tower=True))
