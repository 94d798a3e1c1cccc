"""Labelled corpora: what a row is in each format, and errors that name file and line."""

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from rnnlm.config import from_dict
from rnnlm.data.formats import paragraphs, text_blocks
from rnnlm.data.formats.base import CorpusConfig
from rnnlm.data.formats.brat import BratCorpus
from rnnlm.data.formats.conll_columns import ConllColumnsCorpus
from rnnlm.data.formats.conllu import ConlluCorpus
from rnnlm.data.formats.jsonl import JsonlCorpus
from rnnlm.data.formats.labelled_tsv import LabelledTsvCorpus
from rnnlm.data.formats.parquet import ParquetCorpus
from rnnlm.data.formats.word_label_lines import WordLabelLinesCorpus
from rnnlm.data.labels.entities import ENTITIES, spans_in
from rnnlm.data.labels.schemes import Span
from rnnlm.data.listing import Listing
from rnnlm.errors import ConfigError, DataError
from tests.corpora import write_compressed

SUFFIXES = ["", ".gz", ".xz", ".zst"]


def table(corpus):
    listing = corpus.list_units()
    units = [corpus.read_unit(unit, listing.schema) for unit in listing.units]
    return pa.concat_tables([listing.schema.empty_table(), *units])


def rows(corpus):
    return table(corpus).to_pylist()


def extents(row):
    return [(*list(one.values())[:4], one["type"]) for one in row["entities"]]


def file_of(folder, name, content):
    write_compressed(folder / name, content.encode())
    return str(folder / name)


# ----- CoNLL-U

UD = """# newdoc id = d
# sent_id = d-1
# text = I don't.
1\tI\tI\tPRON\tPRP\tNumber=Sing\t0\troot\t_\t_
2-3\tdon't\t_\t_\t_\t_\t_\t_\t_\tSpaceAfter=No
2\tdo\tdo\tAUX\tVBP\t_\t1\taux\t_\t_
3\tn't\tnot\tPART\tRB\t_\t1\tadvmod\t_\t_
3.1\tgo\tgo\tVERB\tVB\t_\t_\t_\t1:dep\t_
4\t.\t.\tPUNCT\t.\t_\t1\tpunct\t_\t_

# sent_id = d-2
1\t\u00dc\u00a0b\u2028\u0085c\tb\tX\tFW\t_\t0\troot\t_\t_
"""


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_words_of_universal_dependencies_are_the_syntactic_ones(tmp_path, suffix):
    first, second = rows(ConlluCorpus(path=file_of(tmp_path, f"a.conllu{suffix}", UD)))
    assert first == {
        "text": "I don't.",
        "words": ["I", "do", "n't", "."],
        "labels": ["PRON", "AUX", "PART", "PUNCT"],
        "sentence_id": "d-1",
    }
    assert (second["text"], second["words"]) == ("\u00dc\u00a0b\u2028\u0085c", ["\u00dc\u00a0b\u2028\u0085c"])


@pytest.mark.parametrize(
    ("field", "labels"),
    [
        ("xpos", ["PRP", "VBP", "RB", "."]),
        ("lemma", ["I", "do", "not", "."]),
        ("feats", ["Number=Sing", "_", "_", "_"]),
        ("deprel", ["root", "aux", "advmod", "punct"]),
        ("misc", ["_", "_", "_", "_"]),
    ],
)
def test_any_cell_may_be_the_label_and_stands_as_it_is_written(tmp_path, field, labels):
    assert rows(ConlluCorpus(path=file_of(tmp_path, "a.conllu", UD), field=field))[0]["labels"] == labels


@pytest.mark.parametrize(
    ("old", "new", "said", "line"),
    [
        ("2\tdo\tdo", "2\tdo", "the line has 9 cells, CoNLL-U has 10", 6),
        ("2\tdo\tdo", "two\tdo\tdo", "'two' is not the number of a word", 6),
        ("2\tdo\tdo", "2\t\tdo", "a cell is empty", 6),
        ("2\tdo\tdo", "1\t\u2028do\tdo\t", "the line has 11 cells", 6),
        ("1\t\u00dc\u00a0b", "1-2\t\u00dc\u00a0b", "the sentence has no words", 11),
    ],
)
def test_what_is_not_conllu_is_named_with_its_line(tmp_path, old, new, said, line):
    path = file_of(tmp_path, "a.conllu", UD.replace(old, new))
    with pytest.raises(DataError, match=rf"{said}.* at {path}, line {line}"):
        ConlluCorpus(path=path).list_units()


# ----- columns

NER = """-DOCSTART- -X- O O

New NNP I-NP I-LOC
York NNP I-NP I-LOC
Paris NNP I-NP B-LOC

# NN O O
"""
NESTED = "New\tB-ORG\tB-LOC\nYork\tI-ORG\tI-LOC\nTimes\tI-ORG\tO\n\n\n\nDas\tO\tO\nEnde\u2028x\tO\tO"


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_columns_become_words_labels_and_entities(tmp_path, suffix):
    path = file_of(tmp_path, f"a.conll{suffix}", NER)
    corpus = ConllColumnsCorpus(path=path, labels=[3], scheme="iob1", separator="blank")
    first, second = rows(corpus)
    assert (first["text"], first["words"]) == ("New York Paris", ["New", "York", "Paris"])
    assert first["labels"] == ["I-LOC", "I-LOC", "B-LOC"]
    assert extents(first) == [(0, 8, 0, 2, "LOC"), (9, 14, 2, 3, "LOC")]
    assert (second["words"], second["entities"]) == (["#"], [])


def test_nested_annotations_are_one_set_of_entities_and_a_column_a_level(tmp_path):
    path = file_of(tmp_path, "a.iob2", "\ufeff" + NESTED)
    found = table(ConllColumnsCorpus(path=path, labels=[1, 2], scheme="iob2"))
    assert found.schema.names == ["text", "words", "labels", "labels_2", "entities"]
    assert found.schema.field("entities").type == ENTITIES
    first, second = found.to_pylist()
    assert first["words"] == ["New", "York", "Times"]
    assert first["labels_2"] == ["B-LOC", "I-LOC", "O"]
    assert extents(first) == [(0, 14, 0, 3, "ORG"), (0, 8, 0, 2, "LOC")]
    assert spans_in(first["entities"]) == {Span(0, 3, "ORG"), Span(0, 2, "LOC")}
    assert second["text"] == "Das Ende\u2028x"


def test_labels_without_a_scheme_are_classes_of_words(tmp_path):
    found = table(
        ConllColumnsCorpus(path=file_of(tmp_path, "a.conll", NER), labels=[1], separator="blank", comment="#")
    )
    assert found.to_pylist() == [
        {"text": "New York Paris", "words": ["New", "York", "Paris"], "labels": ["NNP", "NNP", "NNP"]}
    ]


def test_malformed_labels_are_repaired_as_conlleval_reads_them(tmp_path):
    corpus = ConllColumnsCorpus(path=file_of(tmp_path, "a.conll", "a\tI-X\nb\tI-Y\n"), scheme="iob2")
    assert extents(rows(corpus)[0]) == [(0, 1, 0, 1, "X"), (2, 3, 1, 2, "Y")]
    assert rows(corpus)[0]["labels"] == ["I-X", "I-Y"]


@pytest.mark.parametrize("block", [8, 1 << 20])
@pytest.mark.parametrize(
    ("content", "fields", "said", "line"),
    [
        ("a\tO\n\nb\n", {}, "the line has 1 cell, there is no cell 1", 3),
        ("a\tO\nb\tO\n", {"labels": [2]}, "the line has 2 cells, there is no cell 2", 1),
        ("a\tO\n\tO\n", {}, "the word is empty", 2),
        ("a\tO\nb\t\n", {}, "the label is empty", 2),
        ("a O\nb O\n", {}, "the line has 1 cell", 1),
        ("a\tO\n\nb\tO\nc\tPER\n", {"scheme": "iob2"}, "label 2 is 'PER', but iob2 has O, B-, I-", 4),
    ],
)
def test_what_is_no_column_is_named_with_its_line(tmp_path, monkeypatch, content, fields, said, line, block):
    monkeypatch.setattr(text_blocks, "BLOCK_BYTES", block)
    path = file_of(tmp_path, "a.conll", content)
    with pytest.raises(DataError, match=rf"{said}.*a.conll, line {line}") as caught:
        ConllColumnsCorpus(path=path, **{"labels": [1], **fields}).list_units()
    assert (caught.value.where.file, caught.value.where.line) == (path, line)


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({"labels": [1, 1]}, "labels: a cell stands there twice"),
        ({"labels": []}, "labels"),
        ({"scheme": "iob3"}, "scheme"),
        ({"comment": ""}, "comment: every line begins with nothing"),
    ],
)
def test_fields_that_make_no_sense_are_refused(fields, said):
    target = "rnnlm.data.formats.conll_columns.ConllColumnsCorpus"
    with pytest.raises(ConfigError, match=said):
        from_dict(CorpusConfig, {"_target_": target, "path": "a", **fields})


# ----- any file of paragraphs


@pytest.mark.parametrize("suffix", ["", ".xz"])
def test_any_rows_of_a_file_can_be_read_on_their_own(tmp_path, monkeypatch, suffix):
    monkeypatch.setattr(text_blocks, "BLOCK_BYTES", 16)
    monkeypatch.setattr(paragraphs, "BATCH_ROWS", 3)
    content = "\r\n \t\r\n".join(f"w{n}\tL{n}\r\nx\tO" for n in range(20))
    corpus = ConllColumnsCorpus(path=file_of(tmp_path, f"a.conll{suffix}", content))
    listing = corpus.list_units()
    (unit,) = listing.units
    assert unit.rows == 20
    assert corpus.list_units(Listing.from_bytes(listing.to_bytes())) == listing
    for start, stop in [(0, 20), (0, 1), (7, 13), (19, 20), (5, 5)]:
        found = pa.concat_tables(
            [listing.schema.empty_table(), *corpus.read_batches(unit, listing.schema, start=start, stop=stop)]
        )
        assert found["labels"].to_pylist() == [[f"L{n}", "O"] for n in range(start, stop)]
    assert list(corpus.iterate_texts(listing))[:2] == ["w0 x", "w1 x"]
    assert corpus.read_unit(unit, listing.schema, ["text"]).schema.names == ["text"]


def test_a_file_without_sentences_has_no_rows_and_a_changed_one_is_noticed(tmp_path, monkeypatch):
    path = file_of(tmp_path, "a.conll", "\n\n-DOCSTART-\tO\n\n")
    corpus = ConllColumnsCorpus(path=path)
    assert corpus.list_units().rows == 0
    file_of(tmp_path, "a.conll", "a\tO\n\nb\tO\n")
    listing = corpus.list_units()
    monkeypatch.setattr(text_blocks, "check_unchanged", lambda file: None)
    file_of(tmp_path, "a.conll", "a\tO\n")
    with pytest.raises(DataError, match=r"the file changed after it was listed at .*a.conll"):
        corpus.read_unit(listing.units[0], listing.schema)


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_what_is_not_utf8_is_named_with_its_line(tmp_path, suffix):
    write_compressed(tmp_path / f"a.conll{suffix}", b"a\tO\n\nb\xff\tO\n")
    with pytest.raises(DataError, match=r"not valid UTF-8 \(byte 0xff\) at .*, line 3"):
        ConllColumnsCorpus(path=str(tmp_path / f"a.conll{suffix}")).list_units()


# ----- a label and a text a line


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_a_label_stands_before_or_behind_its_text(tmp_path, suffix):
    before = file_of(tmp_path, f"a.tsv{suffix}", "\ufeffneg\tno good\u2028film\r\npos\tgood\n")
    behind = file_of(tmp_path, f"b.tsv{suffix}", "sentence\tlabel\nno good\u2028film\tneg\ngood\tpos\n")
    found = rows(LabelledTsvCorpus(path=before))
    assert found == [{"text": "no good\u2028film", "label": "neg"}, {"text": "good", "label": "pos"}]
    assert rows(LabelledTsvCorpus(path=behind, label="last", header=True)) == found


def test_a_text_may_hold_a_separator_that_is_no_tab(tmp_path):
    assert rows(LabelledTsvCorpus(path=file_of(tmp_path, "a.txt", "1 a b c\n"), separator=" ")) == [
        {"text": "a b c", "label": "1"}
    ]
    assert rows(LabelledTsvCorpus(path=file_of(tmp_path, "b.txt", "a, b, c,1\n"), separator=",", label="last")) == [
        {"text": "a, b, c", "label": "1"}
    ]


def test_a_text_may_have_several_labels_or_none(tmp_path):
    corpus = LabelledTsvCorpus(path=file_of(tmp_path, "a.tsv", "a,b\tx\n\ty\n"), label_separator=",")
    assert rows(corpus) == [{"text": "x", "labels": ["a", "b"]}, {"text": "y", "labels": []}]


@pytest.mark.parametrize("header", [False, True])
def test_units_of_lines_are_read_in_any_order(tmp_path, monkeypatch, header):
    monkeypatch.setattr(text_blocks, "BLOCK_BYTES", 16)
    content = ("label\ttext\n" if header else "") + "".join(f"{n % 2}\ttext {n}\n" for n in range(30))
    corpus = LabelledTsvCorpus(path=file_of(tmp_path, "a.tsv", content), header=header)
    listing = corpus.list_units()
    assert len(listing.units) > 10
    assert listing.rows == 30
    found = [corpus.read_unit(unit, listing.schema, ["text"]) for unit in reversed(listing.units)]
    assert pa.concat_tables(found[::-1])["text"].to_pylist() == [f"text {n}" for n in range(30)]


@pytest.mark.parametrize("block", [8, 1 << 20])
@pytest.mark.parametrize(
    ("content", "fields", "said", "line"),
    [
        ("a\tb\nc\n", {}, r"the line has 1 cell, a label and a text are needed with '\\t' between", 2),
        ("a\tb\nc\td\te\n", {}, "the line has 3 cells", 2),
        ("a\tb\n\n", {}, "the line has 1 cell", 2),
        ("a\tb\n\tc\n", {}, "the label is empty", 2),
        ("a\tb\nc\t \n", {}, "the text is empty", 2),
        ("l\tt\na\tb\nc\n", {"header": True}, "the line has 1 cell", 3),
        ("", {"header": True}, "the file is empty, its first line should name the columns", None),
    ],
)
def test_a_line_without_label_and_text_is_named(tmp_path, monkeypatch, content, fields, said, line, block):
    monkeypatch.setattr(text_blocks, "BLOCK_BYTES", block)
    with pytest.raises(DataError, match=said) as caught:
        LabelledTsvCorpus(path=file_of(tmp_path, "a.tsv", content), **fields).list_units()
    assert caught.value.where.line == line


# ----- line-aligned words and labels


def atis(folder, words, labels, classes=None, suffix="", **fields):
    named = {"words": words, "labels": labels, "label": classes}
    paths = {name: file_of(folder, f"{name}{suffix}", text) for name, text in named.items() if text is not None}
    return WordLabelLinesCorpus(**paths, **fields)


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_lines_of_words_labels_and_classes_are_rows(tmp_path, suffix):
    corpus = atis(tmp_path, "to new york\nhi \n", "O B-city I-city\nO\n", "fly#fare\nhi\n", suffix, scheme="iob2")
    first, second = rows(corpus)
    assert extents(first) == [(3, 11, 1, 3, "city")]
    del first["entities"]
    assert first == {
        "text": "to new york",
        "words": ["to", "new", "york"],
        "labels": ["O", "B-city", "I-city"],
        "label": "fly#fare",
    }
    assert second == {"text": "hi", "words": ["hi"], "labels": ["O"], "label": "hi", "entities": []}
    listing = corpus.list_units()
    assert corpus.list_units(Listing.from_bytes(listing.to_bytes())) == listing


def test_without_classes_and_scheme_there_are_words_and_labels(tmp_path):
    assert rows(atis(tmp_path, "a b\n", "X Y\n")) == [{"text": "a b", "words": ["a", "b"], "labels": ["X", "Y"]}]


@pytest.mark.parametrize(
    ("words", "labels", "classes", "said"),
    [
        ("a\nb c\n", "O\nO\n", None, "the line has 2 words, but 1 labels at .*words, line 2"),
        ("a\n\n", "O\n\n", None, "the line has no words at .*words, line 2"),
        ("a\nb\n", "O\nX\n", None, "label 1 is 'X', but iob2 has O, B-, I- at .*words, line 2"),
        ("a\nb\n", "O\nO\n", "x\n \n", "its class is empty at .*words, line 2"),
        ("a\nb\n", "O\n", None, "the files do not pair: 2 lines in .*words, 1 in .*labels"),
    ],
)
def test_lines_that_do_not_belong_together_are_named(tmp_path, words, labels, classes, said):
    with pytest.raises(DataError, match=said):
        atis(tmp_path, words, labels, classes, scheme="iob2").list_units()


# ----- brat

TEXT = "James O'Neil saw\r\nNew York's mayor.\n\nThe end.\n"
ANN = """T1\tPER 0 12\tJames O'Neil
T2\tLOC 18 26\tNew York
T3\tPER 18 34\tNew York's mayor
R1\tknows Arg1:T1 Arg2:T3
#1\tAnnotatorNotes T1\ta note
"""


def brat(folder, text=TEXT, annotations=ANN, suffix="", **fields):
    file_of(folder, f"a.ann{suffix}", annotations)
    return BratCorpus(path=file_of(folder, f"a.txt{suffix}", text), **fields)


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_a_document_is_a_row_with_its_entities(tmp_path, suffix):
    (row,) = rows(brat(tmp_path, suffix=suffix))
    assert (row["text"], row["document"]) == (TEXT, "a")
    assert row["words"][:6] == ["James", "O'Neil", "saw", "New", "York", "'s"]
    assert extents(row) == [(0, 12, 0, 2, "PER"), (18, 34, 3, 7, "PER"), (18, 26, 3, 5, "LOC")]


def test_a_line_may_be_a_row(tmp_path):
    found = rows(brat(tmp_path, rows="line"))
    assert [row["text"] for row in found] == ["James O'Neil saw", "New York's mayor.", "The end."]
    assert [extents(row) for row in found] == [
        [(0, 12, 0, 2, "PER")],
        [(0, 16, 0, 4, "PER"), (0, 8, 0, 2, "LOC")],
        [],
    ]


def test_an_entity_inside_of_a_word_keeps_its_characters_and_has_the_word(tmp_path):
    (row,) = rows(brat(tmp_path, annotations="T1\tPART 1 3\tam\n"))
    assert extents(row) == [(1, 3, 0, 1, "PART")]


def test_entities_in_pieces_are_refused_or_counted(tmp_path):
    said = r"the entity has 2 pieces at .*a.ann, line 1; set corpus.discontinuous=leave_out"
    annotations = "T1\tPER 0 5;13 16\tJames saw\nT2\tX 13 21\tsaw New\nT3\tPER 0 12\tJames O'Neil\n"
    with pytest.raises(DataError, match=said):
        brat(tmp_path, annotations=annotations).list_units()
    found = rows(brat(tmp_path, annotations=annotations, rows="line", discontinuous="leave_out"))
    assert [row["left_out"] for row in found] == [2, 0, 0]
    assert extents(found[0]) == [(0, 12, 0, 2, "PER")]
    with pytest.raises(DataError, match=r"the entity goes over several lines at .*a.ann, line 2; set corpus.disc"):
        brat(tmp_path, annotations="\n" + annotations.split("\n")[1], rows="line").list_units()


@pytest.mark.parametrize(
    ("annotations", "said"),
    [
        ("T1\tPER 0 99\tJames", "the text has 46 characters, none of them 0 to 99"),
        ("T1\tPER 5 5\t", "none of them 5 to 5"),
        ("T1\tPER 0 5\tJamie", "characters 0 to 5 are 'James', not 'Jamie'"),
        ("T1\tPER 0\tJames", "'PER 0' is not a type and two offsets"),
        ("T1 PER 0 5 James", "'' is not a type and two offsets"),
        ("T1\tPER 5 6\t", "characters 5 to 6 are white space"),
    ],
)
def test_annotations_that_do_not_fit_the_text_are_named_with_their_line(tmp_path, annotations, said):
    with pytest.raises(DataError, match=rf"{said}.* at .*a.ann, line 2") as caught:
        brat(tmp_path, annotations="#1\tnote\n" + annotations + "\n").list_units()
    assert caught.value.where.line == 2
    assert caught.value.where.file.endswith("a.ann")


def test_an_entity_that_begins_between_lines_needs_documents_as_rows(tmp_path):
    with pytest.raises(DataError, match=r"begins between lines at .*a.ann, line 1; set corpus.rows=document"):
        brat(tmp_path, annotations="T1\tX 16 21\tNew\n", rows="line").list_units()
    assert rows(brat(tmp_path, annotations="T1\tX 16 21\tNew\n"))[0]["entities"][0]["start_word"] == 3


def test_each_document_needs_annotations_and_neither_may_change(tmp_path):
    file_of(tmp_path, "b.txt", "b")
    with pytest.raises(DataError, match=r"there are no annotations .*b.ann at .*b.txt; add an empty file"):
        BratCorpus(path=str(tmp_path)).list_units()
    file_of(tmp_path, "b.ann", "")
    corpus = brat(tmp_path)
    folder = BratCorpus(path=str(tmp_path))
    assert [row["document"] for row in rows(folder)] == ["a", "b"]
    listing = corpus.list_units()
    file_of(tmp_path, "a.ann", "")
    with pytest.raises(DataError, match=r"the file changed after it was listed: .* at .*a.ann"):
        corpus.read_unit(listing.units[0], listing.schema)


@pytest.mark.parametrize("suffix", SUFFIXES[1:])
def test_damaged_documents_and_empty_ones_are_refused(tmp_path, suffix):
    corpus = brat(tmp_path, suffix=suffix)
    content = (tmp_path / f"a.txt{suffix}").read_bytes()
    (tmp_path / f"a.txt{suffix}").write_bytes(content[:-9])
    with pytest.raises(DataError, match=r"cannot decompress the file .*a.txt"):
        corpus.list_units()
    with pytest.raises(DataError, match=r"the document has no words at .*a.txt"):
        brat(tmp_path, text=" \n", annotations="", suffix=suffix).list_units()


# ----- what is in columns already


def test_labelled_columns_survive_parquet_and_json_lines(tmp_path):
    found = table(ConllColumnsCorpus(path=file_of(tmp_path, "a.iob2", NESTED), labels=[1, 2], scheme="iob2"))
    pq.write_table(found, tmp_path / "a.parquet")
    assert table(ParquetCorpus(path=str(tmp_path / "a.parquet"))).equals(found)
    line = '{"text": "a b", "words": ["a", "b"], "labels": ["X", "Y"]}\n'
    assert rows(JsonlCorpus(path=file_of(tmp_path, "a.jsonl", line))) == [
        {"text": "a b", "words": ["a", "b"], "labels": ["X", "Y"]}
    ]


def test_labels_are_written_in_another_scheme(tmp_path):
    (tmp_path / "a.conll").write_text("New I-LOC\nYork I-LOC\n, O\nOhio I-LOC\nTexas B-LOC\n")
    corpus = ConllColumnsCorpus(path=str(tmp_path), separator="blank", scheme="iob1", write_scheme="iobes")
    listing = corpus.list_units()
    (row,) = corpus.read_unit(listing.units[0], listing.schema).to_pylist()
    assert row["labels"] == ["B-LOC", "E-LOC", "O", "S-LOC", "S-LOC"]
    assert [one["type"] for one in row["entities"]] == ["LOC", "LOC", "LOC"]
    with pytest.raises(ValueError, match="set scheme"):
        ConllColumnsCorpus(path=str(tmp_path), write_scheme="iobes")


def test_labels_of_lines_are_written_in_another_scheme(tmp_path):
    (tmp_path / "seq.in").write_text("to new york\n")
    (tmp_path / "seq.out").write_text("O B-city I-city\n")
    corpus = WordLabelLinesCorpus(
        words=str(tmp_path / "seq.in"), labels=str(tmp_path / "seq.out"), scheme="iob2", write_scheme="iobes"
    )
    listing = corpus.list_units()
    (row,) = corpus.read_unit(listing.units[0], listing.schema).to_pylist()
    assert row["labels"] == ["O", "B-city", "E-city"]
