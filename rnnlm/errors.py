"""The one family of errors a user can meet.

    RnnlmError                      exit code   meaning
    |-- ConfigError                     2       a field is unknown, missing, of the wrong type or out of range
    |-- DataError                       2       a file, column or row cannot be used
    |-- TokenizerError                  2       a tokenizer cannot be trained, read or applied
    |-- CheckpointError                 2       a checkpoint is missing, truncated or does not fit
    |-- RefusedError                    2       an output belongs to another run; the difference is shown
    |-- NonFiniteError                  3       loss, gradient or score is not a finite number
    |-- FailuresError                   3       the work finished, but some of it failed
    |-- EnvironmentFailure              4       disk, cluster or storage does not allow the work
    |-- StalledError                    5       nothing moved for too long
    `-- TerminatedError                143      SIGTERM: state was saved, run the command again to go on

A message says what is wrong, where, and what to do, with the values, in at most three lines.
Anything else that escapes is a bug of ours: exit code 1 and a traceback.
"""

import re
from dataclasses import dataclass

# `s3://key:secret@bucket`, not `hdfs://host:8020/a@b`; and `?sas_token=...`.
_USER = re.compile(r"""(?<=://)(?![^/\s:@]*:\d+/)[^/\s@:'"?]*:[^\s'"?]*@""")
_PARAMETER = re.compile(
    r"""(?<=[?&])([^=&\s'"]*(?:key|secret|token|sig|password)[^=&\s'"]*)=[^&\s'"]*&?""", re.IGNORECASE
)


def without_secrets(text: str) -> str:
    """`text` with the credentials taken out of the URIs in it: for messages and for what is kept."""
    if "://" not in text:
        return text
    return _PARAMETER.sub("", _USER.sub("", text))


@dataclass(frozen=True)
class Place:
    """Where in a corpus something is; the identity of a row is (file, row group, row). In a text file it is the line,
    counted from 1 as an editor does."""

    file: str
    row_group: int | None = None
    row: int | None = None
    column: str | None = None
    line: int | None = None

    def __str__(self) -> str:
        parts = [self.file]
        if self.row_group is not None:
            parts.append(f"row group {self.row_group}")
        if self.row is not None:
            parts.append(f"row {self.row}")
        if self.line is not None:
            parts.append(f"line {self.line}")
        if self.column is not None:
            parts.append(f"column '{self.column}'")
        return ", ".join(parts)


class RnnlmError(Exception):
    """Base of every error meant for the user."""

    exit_code = 2

    def __init__(self, what: str, *, where: Place | None = None, todo: str = "") -> None:
        what, todo = without_secrets(what), without_secrets(todo)
        self.what, self.where, self.todo = what, where, todo
        place = f" at {without_secrets(str(where))}" if where is not None else ""
        advice = f"; {todo}" if todo else ""
        super().__init__(f"{what}{place}{advice}")

    def __reduce__(self) -> tuple[object, ...]:
        # Errors travel from workers to the driver; keyword arguments need help to be pickled.
        return (_rebuild, (type(self), self.args, dict(self.__dict__)))


def _rebuild(cls: type[RnnlmError], args: tuple[object, ...], state: dict[str, object]) -> RnnlmError:
    error = cls.__new__(cls)
    error.args = args
    error.__dict__.update(state)
    return error


class ConfigError(RnnlmError):
    """Every problem of a configuration at once, one line a problem: `path: problem`."""

    def __init__(self, problems: list[str] | str) -> None:
        self.problems = [without_secrets(one) for one in ([problems] if isinstance(problems, str) else problems)]
        super().__init__("\n".join(self.problems))


class DataError(RnnlmError):
    """A file, a column or a row cannot be used."""


class TokenizerError(RnnlmError):
    """A tokenizer cannot be trained, read or applied."""


class CheckpointError(RnnlmError):
    """A checkpoint is missing, truncated, of an unknown version, or does not fit its tokenizer."""


class RefusedError(RnnlmError):
    """The output folder holds another run; `differences` name what changed."""

    def __init__(self, output: str, differences: list[str]) -> None:
        self.differences = differences
        shown = "; ".join(differences[:3]) + (f"; and {len(differences) - 3} more" if len(differences) > 3 else "")
        super().__init__(
            f"{output} holds another run: {shown}",
            todo="choose another output folder, or delete this one to start again",
        )


class NonFiniteError(RnnlmError):
    """Loss or gradient is NaN or infinite."""

    exit_code = 3


class FailuresError(RnnlmError):
    """The work finished, but some of it failed."""

    exit_code = 3


class EnvironmentFailure(RnnlmError):
    """The machine, the cluster or the storage does not allow the work."""

    exit_code = 4


class StalledError(RnnlmError):
    """Nothing moved for longer than the stall timeout."""

    exit_code = 5


class TerminatedError(RnnlmError):
    """SIGTERM arrived; what was done is saved."""

    exit_code = 143
