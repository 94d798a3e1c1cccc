"""One combination of a sweep."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Trial:
    """The name of its folder, what was swept, and its validated settings as plain data, or why there are none."""

    name: str
    parameters: Mapping[str, str]  # override -> value, as typed
    settings: Mapping[str, Any] | None
    problem: str = ""
