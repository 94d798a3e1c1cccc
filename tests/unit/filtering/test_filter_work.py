"""Dividing a corpus: every row in the folder of its partition, as it was; what is not kept is counted."""

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from rnnlm.bulk.engine import execute, prepare, run_here
from rnnlm.bulk.verify import verify_output
from rnnlm.data.formats.parquet import ParquetCorpus
from rnnlm.errors import DataError
from rnnlm.filtering.filter_work import FilterWork
from rnnlm.filtering.groups import GroupedSketch
from rnnlm.filtering.partitions import PartitionCounts, cut_at_quantiles
from rnnlm.filtering.scan import check_score_columns, scan_columns, scores_and_groups

ROWS = 3000


@pytest.fixture(scope="module")
def corpus(tmp_path_factory):
    folder = tmp_path_factory.mktemp("scored")
    generator = np.random.default_rng(5)
    language = generator.choice(["en", "de", "yo"], ROWS, p=[0.6, 0.39, 0.01])
    score = generator.lognormal(3.0, 1.0, ROWS) * np.where(language == "de", 3.0, 1.0)
    score[::50] = np.nan
    table = pa.table({"id": pa.array(range(ROWS)), "language": language, "score": pa.array(score, from_pandas=True)})
    for number in range(3):
        pq.write_table(table.slice(1000 * number, 1000), folder / f"{number}.parquet", row_group_size=170)
    return ParquetCorpus(path=str(folder))


def sketch_of(corpus):
    listing, sketches, rows = corpus.list_units(), GroupedSketch(), []
    for table in scan_columns(corpus, listing, ["score", "language"], rows.append):
        sketches.add(*scores_and_groups(table, "score", ["language"]))
    assert sum(rows) == min(ROWS, corpus.limit or ROWS)
    return sketches


def divide(corpus, output, keep=None, target_seconds=1e-4):
    cuts = cut_at_quantiles(sketch_of(corpus))
    work = FilterWork(score_column="score", cuts=cuts.to_dict(), group_by=["language"], keep=keep)
    plan = prepare(work, corpus, str(output), target_seconds=target_seconds)
    return cuts, execute(plan, run_here, on_event=lambda event: None).totals


def test_every_row_is_in_the_folder_of_its_partition(corpus, tmp_path):
    cuts, totals = divide(corpus, tmp_path / "out")
    assert totals.shards > 3
    whole = pq.read_table(corpus.path)
    expected = cuts.assign(whole["score"], whole["language"]).to_pylist()
    found = {}
    for name in [*cuts.names, None]:
        folder = tmp_path / "out/data" / f"partition={name or '__HIVE_DEFAULT_PARTITION__'}"
        table = pa.concat_tables(pq.ParquetFile(file).read() for file in sorted(folder.iterdir()))
        assert table.schema.names == ["id", "language", "score"]
        rows = [row for row in range(ROWS) if expected[row] == name]
        assert table["id"].to_pylist() == rows
        assert table.equals(whole.take(rows).combine_chunks())
        found[name] = len(rows)
    assert sum(found.values()) == ROWS
    assert found[None] == ROWS // 50
    assert abs(found["head"] - found["tail"]) < 0.03 * ROWS
    assert verify_output(str(tmp_path / "out"), sample=2, seed=1).problems == []


def test_quantiles_are_those_of_each_group(corpus):
    cuts = cut_at_quantiles(sketch_of(corpus))
    whole = pq.read_table(corpus.path)
    languages, values = np.array(whole["language"].to_pylist()), whole["score"].to_numpy()
    for language in ("en", "de"):
        scores = values[(languages == language) & np.isfinite(values)]
        exact = np.quantile(scores, [1 / 3, 2 / 3], method="lower")
        assert cuts.for_group(language) == pytest.approx(exact.tolist(), rel=1e-3)
    assert cuts.for_group("yo") == cuts.common  # too few for cuts of its own


def test_what_is_not_kept_is_counted(corpus, tmp_path):
    _, totals = divide(corpus, tmp_path / "out", keep=["head"])
    assert [file.name for file in (tmp_path / "out/data").iterdir()] == ["partition=head"]
    kept = sum(pq.ParquetFile(file).metadata.num_rows for file in (tmp_path / "out/data").rglob("*.parquet"))
    assert kept + totals.dropped == totals.rows == ROWS
    assert verify_output(str(tmp_path / "out"), sample=2, seed=1).problems == []


def test_a_limited_corpus_is_scanned_as_it_is_divided(corpus, tmp_path):
    limited = ParquetCorpus(path=corpus.path, limit=1234, where="id >= 100")
    cuts, totals = divide(limited, tmp_path / "out")
    counts = PartitionCounts(cuts.names)
    for table in scan_columns(limited, limited.list_units(), ["score", "language"]):
        scores, groups = scores_and_groups(table, "score", ["language"])
        counts.add(cuts.assign(scores, groups), groups)
    partitions, unscored = counts.total()
    assert sum(partitions.values()) + unscored == totals.rows == 1134


def test_columns_that_cannot_be_used_are_refused(corpus):
    listing = corpus.list_units()
    with pytest.raises(DataError, match=r"no column 'perplexity' among id, language, score.*set score_column"):
        check_score_columns(listing, "perplexity", [])
    with pytest.raises(DataError, match=r"no column 'lang' .*set group_by"):
        check_score_columns(listing, "score", ["lang"])
    with pytest.raises(DataError, match="has type string, numbers are needed"):
        check_score_columns(listing, "language", [])
