"""The trigram tagger: against enumeration, as a distribution, on words it never saw, and on disk."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rnnlm.baselines import HMMConfig, HMMTagger, MostFrequentTagger, hmm
from rnnlm.config import from_dict
from rnnlm.errors import CheckpointError, ConfigError, DataError
from rnnlm.storage import open_location
from tests.unit.baselines.slow import BOUNDARY, SlowTrigramTagger

ROUNDING = 1e-9  # of sums over up to 3^4 taggings, through logarithms

WORDS = ["run", "Run", "fun", "a", "b", "stop", "Bo"]
tagged = st.lists(st.tuples(st.sampled_from(WORDS), st.sampled_from("XYZ")), max_size=5)
corpora = st.lists(tagged, min_size=1, max_size=12).filter(any)
options = st.fixed_dictionaries(
    {
        "max_suffix": st.integers(0, 3),
        "max_rare": st.integers(1, 4),
        "theta": st.sampled_from([None, 0.3, 1.0]),
    }
)
texts = st.lists(st.sampled_from([*WORDS, "sun", "Sun", "Fun", "q", "step"]), max_size=4)


def split(corpus):
    return [[word for word, _ in one] for one in corpus], [[tag for _, tag in one] for one in corpus]


def both(corpus, chosen):
    sentences, labels = split(corpus)
    found = HMMTagger.fit(sentences, labels, HMMConfig(lower_first=False, **chosen))
    return found, SlowTrigramTagger(sentences, labels, **chosen)


@given(corpora, options)
def test_transitions_are_the_papers_and_add_up_to_one(corpus, chosen):
    found, slow = both(corpus, chosen)
    assert found.weights == pytest.approx(slow.weights, rel=ROUNDING)
    assert found.transitions.sum(axis=2) == pytest.approx(1.0, rel=ROUNDING)
    names = [*slow.tags, BOUNDARY]
    for place, probability in np.ndenumerate(found.transitions):
        a, b, c = (names[number] for number in place)
        if (a, b) == (a, BOUNDARY) and a != BOUNDARY:
            continue  # nothing comes after the end
        assert probability == pytest.approx(slow.transition(a, b, c), rel=ROUNDING)


@settings(deadline=None)
@given(corpora, options, texts)
def test_search_sum_and_marginals_agree_with_enumeration(corpus, chosen, words):
    found, slow = both(corpus, chosen)
    every = slow.every_tagging(words)
    total = sum(every.values())
    [best], [logprob], [marginals] = found.tag([words]), found.logprobs([words]), found.marginals([words])
    assert every[tuple(best)] == pytest.approx(max(every.values()), rel=ROUNDING)
    assert logprob == pytest.approx(np.log(total), rel=ROUNDING, abs=ROUNDING)
    assert marginals.shape == (len(words), len(slow.tags))
    for position in range(len(words)):
        for place, tag in enumerate(slow.tags):
            share = sum(chance for tags, chance in every.items() if tags[position] == tag) / total
            assert marginals[position, place] == pytest.approx(share, rel=ROUNDING, abs=ROUNDING)


def test_weights_by_hand():
    # Trigrams: # # A, # A B, A B A, B A B, A B #; N = 5. Each is seen once; only (A B) and (B) are histories twice.
    # (f - 1) / (f' - 1): # # A 1/4, 0, 0; # A B 1/4, 1, 0; A B A 1/4, 0, 0; B A B 1/4, 1, 0; A B # 0, 0, 0.
    found = HMMTagger.fit([["w"] * 4], [["A", "B", "A", "B"]])
    assert found.weights == pytest.approx(np.array([1 + 3, 1 + 2, 1 + 0]) / 8)
    after_a_b = found.transitions[0, 1]
    assert after_a_b == pytest.approx(
        [4 / 8 * 2 / 5 + 3 / 8 / 2 + 1 / 8 / 2, 4 / 8 * 2 / 5, 4 / 8 / 5 + 3 / 8 / 2 + 1 / 8 / 2]
    )


# ----- what it can do


def test_context_tags_what_the_most_frequent_tag_cannot():
    """`duck` is a noun after an article and a verb after a pronoun, and what follows `x` depends on the tag two back."""
    sentences = [["the", "duck"], ["they", "duck"], ["the", "x", "duck"], ["they", "x", "duck"]] * 5
    labels = [["D", "N"], ["P", "V"], ["D", "X", "N"], ["P", "X", "V"]] * 5
    assert HMMTagger.fit(sentences, labels).tag(sentences) == labels
    found = MostFrequentTagger.fit(sentences, labels).tag(sentences)
    assert found[0][1] == found[1][1]  # one of the two is wrong


def test_unknown_words_go_by_their_suffix_and_capital_letter():
    sentences = [["walking", "talking", "walked", "talked", "Hilton", "Milton", "button", "cotton"]]
    found = HMMTagger.fit(sentences, [["G", "G", "D", "D", "P", "P", "N", "N"]], HMMConfig(lower_first=False))
    chance = dict(zip(("smoking", "smoked", "Wharton", "wharton"), (0, 1, 2, 3), strict=True))
    for word, tag in zip(chance, "GDPN", strict=True):
        [[[*marginal]]] = [found.marginals([[word]])]
        assert found.tags[int(np.argmax(marginal))] == tag
        assert found.tag([[word]]) == [[tag]]


def test_only_rare_words_lend_their_suffixes():
    sentences, labels = [["being"]] * 5 + [["ring"]], [["B"]] * 5 + [["R"]]
    suffixes = [
        hmm.Suffixes(HMMTagger.fit(sentences, labels)._lexicon, HMMConfig(max_rare=rare)).distribution("king")
        for rare in (4, 5)
    ]
    assert suffixes[0][0] < 0.2 < suffixes[1][0]


def test_a_first_word_is_also_looked_up_in_lower_case():
    sentences, labels = [["we", "stop"], ["Bob", "Ann"]], [["P", "V"], ["N", "N"]]
    wanted = [["Stop"], ["we", "Stop"]]
    assert HMMTagger.fit(sentences, labels).tag(wanted)[0] == ["V"]
    assert HMMTagger.fit(sentences, labels, HMMConfig(lower_first=False)).tag(wanted)[0] == ["N"]
    assert HMMTagger.fit(sentences, labels).marginals(wanted)[1][1].min() > 0  # elsewhere it stays unknown


def test_a_long_sentence_does_not_underflow():
    sentences, labels = [["a", "b"], ["b", "a"]], [["A", "B"], ["B", "A"]]
    found = HMMTagger.fit(sentences, labels)
    long = ["a", "b", "new"] * 2000
    assert np.isfinite(found.logprobs([long])).all()
    assert found.marginals([long])[0].sum(axis=1) == pytest.approx(1.0)
    assert found.tag([long])[0][:2] == ["A", "B"]


def test_empty_sentences_are_fine():
    found = HMMTagger.fit([["a"], []], [["A"], []])
    assert found.tag([[], ["a"], [""]]) == [[], ["A"], ["A"]]
    assert found.logprobs([[]])[0] == pytest.approx(np.log(found.transitions[1, 1, 1]))
    assert found.marginals([[]])[0].shape == (0, 1)
    assert (found.tag([]), found.marginals([]), len(found.logprobs([]))) == ([], [], 0)


# ----- on disk


SENTENCES = [["the", "duck", "https://me:secret@host/x"], ["\ud800", "Duck", "ducks"]]
LABELS = [["D", "N", "X"], ["P", "N", "V"]]
HELD_OUT = [["ducks", "duck", "lucks"], ["Luck"], ["\ud800"]]


def test_a_tagger_comes_back_with_every_digit(tmp_path):
    found = HMMTagger.fit(SENTENCES, LABELS, HMMConfig(theta=None, max_suffix=3))
    found.save(open_location(str(tmp_path / "a")))
    again = HMMTagger.load(open_location(str(tmp_path / "a")))
    assert (again.settings, again.tags) == (found.settings, found.tags)
    assert np.array_equal(again.transitions, found.transitions)
    assert again.tag(SENTENCES + HELD_OUT) == found.tag(SENTENCES + HELD_OUT)
    assert np.array_equal(again.logprobs(HELD_OUT), found.logprobs(HELD_OUT))


def test_the_same_corpus_in_another_order_makes_the_same_files(tmp_path):
    HMMTagger.fit(SENTENCES, LABELS).save(open_location(str(tmp_path / "a")))
    HMMTagger.fit(SENTENCES[::-1], LABELS[::-1]).save(open_location(str(tmp_path / "b")))
    for file in (tmp_path / "a").iterdir():
        assert file.read_bytes() == (tmp_path / "b" / file.name).read_bytes()


@pytest.mark.parametrize("name", ["strings.json", "arrays.safetensors"])
def test_a_damaged_or_missing_file_is_named_with_the_cure(tmp_path, name):
    location = open_location(str(tmp_path / "a"))
    HMMTagger.fit(SENTENCES, LABELS).save(location)
    content = location.join(name).read_bytes()
    for damaged in (content[:-1], b"", content[:-9] + bytes([content[-9] ^ 1]) + content[-8:]):
        location.join(name).write_bytes(damaged)
        with pytest.raises(CheckpointError, match=rf"{name} .* is not what was saved.*; copy the model again"):
            HMMTagger.load(location)
    location.join(name).delete()
    with pytest.raises(CheckpointError, match=f"lacks {name}"):
        HMMTagger.load(location)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"kind": "ngram"}, "is not that of a hmm model"),
        ({"format_version": 2}, "format version 2, this rnnlm reads 1"),
        ({"settings": None}, "lacks settings or sha256"),
    ],
)
def test_a_card_that_does_not_fit_is_refused(tmp_path, change, message):
    location = open_location(str(tmp_path / "a"))
    HMMTagger.fit(SENTENCES, LABELS).save(location)
    card = location.join("config.json")
    card.write_json({**card.read_json(), **change})
    with pytest.raises(CheckpointError, match=message):
        HMMTagger.load(location)
    with pytest.raises(CheckpointError, match="there is no hmm model in"):
        HMMTagger.load(open_location(str(tmp_path)))


# ----- refused


def test_words_and_tags_must_pair_up():
    with pytest.raises(DataError, match="1 sentences and 0 rows of tags"):
        HMMTagger.fit([["a"]], [])
    with pytest.raises(DataError, match="sentence 1 has 2 words and 1 tags"):
        HMMTagger.fit([["a"], ["a", "b"]], [["A"], ["A"]])
    with pytest.raises(DataError, match="there is no tagged word"):
        HMMTagger.fit([[]], [[]])
    many = [str(number) for number in range(hmm.MAX_TAGS + 1)]
    with pytest.raises(DataError, match="257 tags are too many for trigrams, at most 256"):
        HMMTagger.fit([many], [many])


@pytest.mark.parametrize("chosen", [{"max_suffix": -1}, {"max_rare": 0}, {"theta": -0.1}])
def test_settings_without_sense_are_refused(chosen):
    with pytest.raises(ConfigError, match=f"^{next(iter(chosen))}: "):
        from_dict(HMMConfig, chosen)
