"""A bulk job without a model: the number of characters of each text."""

import json
from pathlib import Path

import pyarrow as pa

from rnnlm.bulk.engine import execute, prepare, run_here
from rnnlm.bulk.plan import CostModel
from rnnlm.bulk.work import NULL_TEXT, Processed, Processor, WorkConfig
from rnnlm.config import config
from rnnlm.data.formats.parquet import ParquetCorpus

BAD = {"bad": "bad: it is"}


@config
class CountWork(WorkConfig):
    """Counts characters; a text "bad" is an error of its row."""

    trouble: str = ""
    "A file with the first rows of shards that cannot be done, as JSON."
    version: int = 1
    "Belongs to the identity."

    @property
    def job(self) -> str:
        return "count"

    def new_fields(self):
        return [pa.field("characters", pa.int32()), pa.field("row", pa.int64()), pa.field("error", pa.string())]

    def cost(self):
        return CostModel(seconds_per_row=1.0, seconds_per_byte=0.0)

    def identity(self):
        return {"version": self.version}

    def provenance(self):
        return {"version": str(self.version)}

    def build(self, device):
        return CountProcessor(self)


class CountProcessor(Processor):
    def __init__(self, work):
        self.work = work

    def process(self, table, rows):
        trouble = set(json.loads(Path(self.work.trouble).read_text())) if self.work.trouble else set()
        for row in rows.tolist():
            if row in trouble:
                raise ZeroDivisionError(f"trouble at row {row}")
        texts = table.column("text").to_pylist()
        good = [text is not None and text != "bad" for text in texts]
        counts = [len(text) if is_good else None for text, is_good in zip(texts, good, strict=True)]
        columns = {
            "characters": pa.array(counts, pa.int32()),
            "row": pa.array(rows),
            "error": pa.array([NULL_TEXT if text is None else BAD.get(text) for text in texts], pa.string()),
        }
        return Processed(columns, sum(filter(None, counts)))


def run_toy(corpus, output, *, work=None, pool=run_here, target_seconds=10.0, seen=None, kind="auto", **options):
    """The whole job, as jobs/bulk.py runs it."""
    corpus = ParquetCorpus(path=str(corpus)) if isinstance(corpus, (str, Path)) else corpus
    plan = prepare(work or CountWork(), corpus, str(output), target_seconds=target_seconds, kind=kind)
    return execute(plan, pool, on_event=(lambda event: None) if seen is None else seen.append, **options)


def parts(output):
    """The bytes of everything that a finished run promises to be equal."""
    files = [*sorted((Path(output) / "data").rglob("*.parquet")), Path(output) / "_SUCCESS"]
    return {str(file.relative_to(output)): file.read_bytes() for file in files}
