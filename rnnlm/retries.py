"""Patience with remote stores: what is refused for the moment is tried again, what never will be is said at once."""

import errno
import random
import re
import time
from collections.abc import Callable
from typing import TypeVar

from rnnlm.errors import DataError, EnvironmentFailure

PAUSES_SECONDS = (1.0, 3.0, 9.0)  # between attempts; pyarrow's S3 tries for 6 s of its own each time
JITTER = 0.5  # a pause is longer or shorter by at most this share

CREDENTIALS = "check the credentials (for S3 AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY) and what they may do there"

# What stores say, once names of keys and buckets are taken out.
_REFUSED = re.compile(
    r"ACCESS_?DENIED|SIGNATURE_DOES_NOT_MATCH|INVALID_(ACCESS_KEY_ID|CLIENT_TOKEN_ID|SIGNATURE|TOKEN)|EXPIRED_?TOKEN"
    r"|UNRECOGNIZED_CLIENT|MISSING_AUTHENTICATION|PERMISSION_?DENIED|UNAUTHENTICATED|UNAUTHORIZED|FORBIDDEN"
    r"|AUTHENTICATION_?FAILED|AUTHORIZATION_?FAILURE|(HTTP|status|code|error)\W{0,3}(status|code)?\W{0,3}40[13]\b",
    re.IGNORECASE,
)
_NO_BUCKET = re.compile(r"NO_?SUCH_?BUCKET|CONTAINER_?NOT_?FOUND|bucket\W+(not found|does not exist)", re.IGNORECASE)
_PASSING = re.compile(
    r"SLOW_?DOWN|THROTTL|TOO_?MANY_?REQUESTS|REQUEST_?LIMIT|RESOURCE_EXHAUSTED|UNAVAILABLE|SERVER_?BUSY"
    r"|INTERNAL_?(FAILURE|ERROR|SERVER_?ERROR)|internal (server )?error|reduce your request rate|try again"
    r"|NETWORK_CONNECTION|CURLCODE|TIMEOUT|timed? out|DEADLINE_EXCEEDED"
    r"|connection (\w+ )?(reset|closed|aborted|refused)|broken pipe|bad gateway"
    r"|(HTTP|status|code|error)\W{0,3}(status|code)?\W{0,3}(408|429|5\d\d)\b",
    re.IGNORECASE,
)
_PASSING_ERRNO = {errno.ECONNRESET, errno.ECONNABORTED, errno.ECONNREFUSED, errno.ETIMEDOUT, errno.EPIPE, errno.EAGAIN}

T = TypeVar("T")


class Attempts:
    """Counts the failures of one operation, and waits after each; for loops that `Location.retrying` does not fit."""

    def __init__(self, uri: str, *, remote: bool = True, sleep: Callable[[float], None] = time.sleep) -> None:
        self._uri, self._remote, self._sleep = uri, remote, sleep
        self._pauses = iter(PAUSES_SECONDS)

    def wait_after(self, error: OSError) -> None:
        """Wait until it is time to try again. Raises if that would not help, as `Location.retrying` does."""
        if not self._remote:
            raise error
        uri, said = self._uri, first_line(error)
        bare = re.sub(r"'[^']*'", "", str(error))
        if _NO_BUCKET.search(bare):
            raise DataError(
                f"there is no bucket for {uri}: {said}", todo="check the name, or make the bucket"
            ) from error
        if isinstance(error, PermissionError) or _REFUSED.search(bare):
            raise EnvironmentFailure(f"access to {uri} is refused: {said}", todo=CREDENTIALS) from error
        if not is_passing(error):
            raise error
        pause = next(self._pauses, None)
        if pause is None:
            raise EnvironmentFailure(
                f"{uri} failed {len(PAUSES_SECONDS) + 1} times: {said}",
                todo="the storage is overloaded or out of reach; run the command again later",
            ) from error
        # Not reproducible on purpose: workers that failed together must not come back together.
        self._sleep(pause * random.uniform(1 - JITTER, 1 + JITTER))  # noqa: S311


def with_retries(action: Callable[[], T], attempts: Attempts) -> T:
    """What `action` gives; tried again as long as `attempts` allows."""
    while True:
        try:
            return action()
        except OSError as error:
            attempts.wait_after(error)


def is_passing(error: OSError) -> bool:
    """Whether a remote store may well do a moment later what it failed to do: throttling, 5xx, a lost connection."""
    if isinstance(error, (FileNotFoundError, IsADirectoryError, NotADirectoryError, PermissionError)):
        return False
    if isinstance(error, (ConnectionError, TimeoutError)) or error.errno in _PASSING_ERRNO:
        return True
    return _PASSING.search(re.sub(r"'[^']*'", "", str(error))) is not None


def first_line(error: BaseException) -> str:
    """What an error says, or else its name."""
    return (str(error).splitlines() or [type(error).__name__])[0]
