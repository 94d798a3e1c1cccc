"""What a job prints, tracebacks of bugs included, without the credentials in the URIs in it."""

import sys
from typing import Any, TextIO, cast

from rnnlm.errors import without_secrets


def keep_secrets() -> None:
    """From here on what this process prints goes through `without_secrets`."""
    sys.stdout = cast(TextIO, _Discreet(sys.stdout))
    sys.stderr = cast(TextIO, _Discreet(sys.stderr))


class _Discreet:
    """A text stream that leaves credentials out; all else is the stream's own."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream

    def write(self, text: str) -> int:
        self._stream.write(without_secrets(text))
        return len(text)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)
