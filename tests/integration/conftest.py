"""Settles what Ray reads from the environment before any test imports it."""

import jobs.distributed  # noqa: F401
