"""Intents and slots by command, from line-aligned files: a vocabulary, a table, a model, structures with places."""

import pyarrow.parquet as pq

from tests.integration.pipeline import refusal, run_well

CITIES = ["rome", "york", "ely"]


def write_files(folder):
    lines = {"words": [], "labels": [], "label": []}
    for number in range(96):
        asks = number % 3 == 0
        begin = ["how", "much"] if asks else ["fly"]
        lines["words"].append(" ".join([*begin, "to", "new", CITIES[number % 2], "today"]))
        lines["labels"].append(" ".join([*("O" for _ in begin), "O", "B-city", "I-city", "O"]))
        lines["label"].append("fare#flight" if number % 6 == 0 else "fare" if asks else "flight")
        if number % 6 == 0:
            lines["words"][-1] += " please"
            lines["labels"][-1] += " O"
    for name, found in lines.items():
        (folder / f"{name}.txt").write_text("".join(f"{line}\n" for line in found))
    files = [f"corpus.{name}={folder / name}.txt" for name in lines]
    return ["corpus=word_label_lines", *files, "corpus.scheme=iob2", "corpus.label_separator='#'"]


def test_structures_are_learnt_and_found(tmp_path):
    source = write_files(tmp_path)
    labelled = [*source, "labels_column=labels", "intents_column=classes"]
    said = run_well("train_tokenizer", *labelled, "tokenizer=labels", f"output={tmp_path / 'tokenizer'}")
    assert "3 labels, 2 intents" in said
    vocabulary = f"tokenizer_path={tmp_path / 'tokenizer'}"
    run_well("tokenize_corpus", *labelled, "cluster=here", vocabulary, f"output={tmp_path / 'table'}")
    training = [
        "task=intents",
        vocabulary,
        f"train_tokens={tmp_path / 'table'}",
        f"valid_tokens={tmp_path / 'table'}",
        "cell.hidden_size=16",
        "task.dropout=0.1",
        "batching.words=128",
        "optimizer.learning_rate=0.03",
        "loop.max_steps=90",
        "tracker=none",
        "threads=1",
    ]
    said = refusal(2, "train", *training, f"output={tmp_path / 'refused'}")
    assert "more than one intent" in said
    assert "task.multi_intent=true" in said
    run_well("train", *training, "task.multi_intent=true", f"output={tmp_path / 'model'}")
    given = [f"checkpoint={tmp_path / 'model'}", *source, "cluster=here", "prefix=predicted_"]
    run_well("predict", *given, f"output={tmp_path / 'found'}")
    parts = [pq.ParquetFile(part).read().to_pylist() for part in sorted((tmp_path / "found" / "data").iterdir())]
    rows = [row for part in parts for row in part]
    assert len(rows) == 96
    right = 0
    for row in rows:
        for slot in row["predicted_slots"]:
            assert row["text"][slot["start_char"] : slot["end_char"]] == slot["value"]
            assert row["words"][slot["start_word"] : slot["end_word"]] == slot["value"].split(" ")
        slots = [(slot["name"], slot["value"]) for slot in row["predicted_slots"]]
        city = row["words"][row["words"].index("new") + 1]
        right += slots == [("city", f"new {city}")] and row["predicted_intents"] == row["classes"]
    assert right > 90
