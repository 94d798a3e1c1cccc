"""The most frequent tag of each word."""

import pytest

from rnnlm.baselines import HMMTagger, MostFrequentTagger
from rnnlm.errors import CheckpointError
from rnnlm.storage import open_location

SENTENCES = [["the", "duck", "the", "duck"], ["duck", "the", "the", "swim"]]
LABELS = [["D", "N", "D", "V"], ["V", "D", "X", "V"]]


def test_a_word_gets_its_most_frequent_tag_and_an_unknown_one_that_of_all():
    found = MostFrequentTagger.fit(SENTENCES, LABELS)  # D 3, V 3, N 1, X 1: the first of the two
    assert found.tag([["the", "duck", "swan"], []]) == [["D", "V", "D"], []]


def test_words_seen_once_may_lend_their_tag():
    assert MostFrequentTagger.fit(SENTENCES, LABELS, unknown="once").tag([["swan"]]) == [["V"]]
    assert MostFrequentTagger.fit([["a", "a"]], [["A", "A"]], unknown="once").tag([["b"]]) == [["A"]]


def test_of_tags_as_frequent_the_one_more_frequent_overall_wins():
    assert MostFrequentTagger.fit([["a", "a", "b"]], [["X", "Y", "Y"]]).tag([["a"]]) == [["Y"]]
    assert MostFrequentTagger.fit([["a", "a", "b"]], [["X", "Y", "X"]]).tag([["a"]]) == [["X"]]


def test_it_comes_back_and_is_no_other_model(tmp_path):
    location = open_location(str(tmp_path / "a"))
    MostFrequentTagger.fit(SENTENCES, LABELS, unknown="once").save(location)
    words = [["the", "duck", "swim", "swan"]]
    assert MostFrequentTagger.load(location).tag(words) == [["D", "V", "V", "V"]]
    with pytest.raises(CheckpointError, match="is not that of a hmm model"):
        HMMTagger.load(location)
