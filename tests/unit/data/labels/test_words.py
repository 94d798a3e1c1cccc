"""Words with offsets: what the rule splits, and that nothing but white space is lost."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rnnlm.data.labels.words import join_words, split_words

PIECES = [
    "don't",
    "U.S.",
    "http://a.b/c",
    ":)",
    "1,234.5",
    "-",
    "'",
    ".",
    " ",
    "\n",
    "\u00e9",
    "e\u0301",
    "#",
    "@x",
    "\u200d",
]
TEXTS = st.one_of(st.text(max_size=40), st.lists(st.sampled_from(PIECES), max_size=12).map("".join))


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("They don't, can't and won't.", "They|do|n't|,|ca|n't|and|wo|n't|."),
        ("John's dogs' tails; I'd've said it\u2019s", "John|'s|dogs|'|tails|;|I|'d|'ve|said|it|\u2019s"),
        ("He 's n't here", "He|'s|n't|here"),
        ("O'Brien's well-known rock'n'roll", "O'Brien|'s|well-known|rock'n'roll"),
        ("In the U.S., e.g. at 10:30 on 1/2 of $1,234.56.", "In|the|U.S.|,|e.g.|at|10:30|on|1/2|of|$|1,234.56|."),
        ("Mr. Smith et al. of AT&T Inc. said 5% (or -5, .5)", "Mr.|Smith|et|al|.|of|AT&T|Inc.|said|5|%|(|or|-5|,|.5|)"),
        ("See http://a.b/c?d=1, or www.x.org.", "See|http://a.b/c?d=1|,|or|www.x.org|."),
        ("mail x.y@z.org! #tag @you", "mail|x.y@z.org|!|#tag|@you"),
        ("good :) bad :-( a:b (x:)", "good|:)|bad|:-(|a|:|b|(|x|:|)"),
        ("wait... what?! -- yes, and/or no", "wait|...|what|?!|--|yes|,|and|/|or|no"),
        ("'quoted' \"too\"", "'|quoted|'|\"|too|\""),
        (
            "Die 3,5 m hohe Stra\u00dfe, z.B. f\u00fcr Fu\u00dfg\u00e4nger",
            "Die|3,5|m|hohe|Stra\u00dfe|,|z.B.|f\u00fcr|Fu\u00dfg\u00e4nger",
        ),
        (
            "\u0939\u093f\u0928\u094d\u0926\u0940 e\u0301t\u0065\u0301",
            "\u0939\u093f\u0928\u094d\u0926\u0940|e\u0301te\u0301",
        ),
        (
            "ok \U0001f468\u200d\U0001f469\u200d\U0001f467\U0001f44d\U0001f3fd!",
            "ok|\U0001f468\u200d\U0001f469\u200d\U0001f467|\U0001f44d\U0001f3fd|!",
        ),
        ("file_name.txt 2024-02-29 1990s", "file_name.txt|2024-02-29|1990s"),
        ("  ", ""),
        ("", ""),
    ],
)
def test_the_rule(text, words):
    assert list(split_words(text)) == [word for word in words.split("|") if word]


@given(TEXTS)
def test_nothing_but_white_space_lies_between_words(text):
    words = split_words(text)
    assert [text[start:end] for start, end in zip(words.starts, words.ends, strict=True)] == list(words)
    assert all(word and not any(sign.isspace() for sign in word) for word in words)
    between = [text[end:start] for end, start in zip((0, *words.ends), (*words.starts, len(text)), strict=True)]
    assert "".join(between).strip() == ""
    assert "".join(words) == "".join(text.split())


@given(st.lists(st.text(min_size=1, max_size=8), max_size=8))
def test_words_that_are_given_stay_as_they_are(given_words):
    words = join_words(given_words)
    assert list(words) == given_words
    assert words.text == " ".join(given_words)


def test_an_empty_word_is_refused():
    with pytest.raises(ValueError, match="word 2 is empty"):
        join_words(["a", ""])


def test_characters_and_words_name_each_other():
    words = split_words("He saw New York's mayor")
    assert words.characters(2, 4) == (7, 15)
    assert words.covering(7, 15) == (2, 4)
    assert words.covering(8, 12) == (2, 4)  # inside of words
    first, behind = words.covering(6, 7)  # the blank before
    assert first == behind


@pytest.mark.parametrize(
    "piece",
    ["-", "-.", "a.", "'", "a's", "'s", ":", ":(", "+x", "x@", "@", "www.", "http://.", "1,", "\u200d", "e\u0301."],
)
@pytest.mark.timeout(20)
def test_no_text_takes_time_that_grows_faster_than_it(piece):
    text = piece * 50_000
    assert "".join(split_words(text)) == text
