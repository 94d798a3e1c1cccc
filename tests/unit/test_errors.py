"""The error family: what it says, what it exits with, and that it survives the way from worker to driver."""

import pickle

import pytest

from rnnlm import errors
from rnnlm.errors import ConfigError, DataError, Place, RefusedError, RnnlmError

PLACE = Place("corpus/a.parquet", row_group=7, row=1043, column="body")

EXIT_CODES = {
    "RnnlmError": 2,
    "ConfigError": 2,
    "DataError": 2,
    "TokenizerError": 2,
    "CheckpointError": 2,
    "RefusedError": 2,
    "NonFiniteError": 3,
    "FailuresError": 3,
    "EnvironmentFailure": 4,
    "StalledError": 5,
    "TerminatedError": 143,
}

EXAMPLES = [
    ConfigError(["a.b: wrong", "c: missing"]),
    ConfigError("just one"),
    RefusedError("outputs/x", ["a: 1 -> 2", "b: 3 -> 4", "c: 5 -> 6", "d: 7 -> 8"]),
    *(
        kind("something is wrong", where=PLACE, todo="mend it")
        for kind in vars(errors).values()
        if isinstance(kind, type) and issubclass(kind, RnnlmError) and kind not in {ConfigError, RefusedError}
    ),
]


def test_every_error_of_the_family_has_its_exit_code():
    family = {n: c for n, c in vars(errors).items() if isinstance(c, type) and issubclass(c, RnnlmError)}
    assert {name: cls.exit_code for name, cls in family.items()} == EXIT_CODES
    assert all(name in errors.__doc__ for name in family)


def test_a_message_says_what_where_and_what_to_do():
    error = DataError("the text is null", where=PLACE, todo="drop the row")
    where = "corpus/a.parquet, row group 7, row 1043, column 'body'"
    assert str(error) == f"the text is null at {where}; drop the row"
    assert str(DataError("the text is null")) == "the text is null"
    assert (error.what, error.where, error.todo) == ("the text is null", PLACE, "drop the row")


@pytest.mark.parametrize(
    ("place", "said"),
    [
        (Place("f"), "f"),
        (Place("f", row=0), "f, row 0"),
        (Place("f", row_group=0), "f, row group 0"),
        (Place("f", column="c"), "f, column 'c'"),
        (Place("f", line=3, column="c"), "f, line 3, column 'c'"),
    ],
)
def test_a_place_says_what_it_knows_and_zero_counts(place, said):
    assert str(place) == said


def test_refused_shows_three_differences_and_counts_the_others():
    message = str(EXAMPLES[2])
    assert message.startswith("outputs/x holds another run: a: 1 -> 2; b: 3 -> 4; c: 5 -> 6; and 1 more; ")
    assert "choose another output folder" in message
    assert "more" not in str(RefusedError("o", ["a", "b", "c"]))


def test_config_errors_are_one_line_a_problem():
    assert str(EXAMPLES[0]) == "a.b: wrong\nc: missing"
    assert EXAMPLES[1].problems == ["just one"]


@pytest.mark.parametrize("error", EXAMPLES, ids=lambda error: type(error).__name__)
def test_pickling_keeps_type_message_and_exit_code(error):
    again = pickle.loads(pickle.dumps(error))
    assert type(again) is type(error)
    assert str(again) == str(error)
    assert again.exit_code == error.exit_code
    assert (again.what, again.where, again.todo) == (error.what, error.where, error.todo)


@pytest.mark.parametrize("error", [EXAMPLES[0], EXAMPLES[2]], ids=lambda error: type(error).__name__)
def test_pickling_keeps_problems_and_differences(error):
    assert vars(pickle.loads(pickle.dumps(error))) == vars(error)
