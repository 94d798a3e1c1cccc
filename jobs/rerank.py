"""Put the hypotheses of jobs.generate into a better order: with a language model's opinion, and a price on length.

python -m jobs.rerank corpus.path=outputs/test/data language_model=outputs/lm tune_on=outputs/valid \
    reference_column=en output=outputs/reranked

With tune_on, the weights are those under which the first hypotheses of that output come nearest to its references (mean
chrF of a row); without, as given.
"""

from dataclasses import replace

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from jobs.app import run_job
from jobs.bulk import run_bulk
from jobs.products import settled_products
from jobs.schemas import RerankJob
from rnnlm.data.files import expand_paths
from rnnlm.errors import DataError, Place
from rnnlm.evaluation.reranking import Tuned, tune
from rnnlm.evaluation.sequence_metrics import sentence_chrf
from rnnlm.inference.rerank_work import COLUMN, RerankWork, features_of, read_hypotheses
from rnnlm.storage import open_location

LM_WEIGHTS = np.round(np.arange(0.0, 1.01, 0.05), 2)
LENGTH_WEIGHTS = np.round(np.arange(-1.0, 2.01, 0.1), 1)


def rerank(job: RerankJob) -> None:
    """Run it."""
    work = RerankWork(
        language_model=open_location(job.language_model).address if job.language_model else None,
        lm_weight=job.lm_weight,
        length_weight=job.length_weight,
        threads=job.threads,
        products=settled_products(job.precision, job, job.threads),
    )
    if job.tune_on is not None and job.reference_column is not None:
        found = _tuned(work, job.tune_on, job.reference_column)
        print(
            f"rerank: lm_weight {found.lm_weight:g}, length_weight {found.length_weight:g}; mean chrF of the first "
            f"hypotheses of {job.tune_on}: {found.before:.2f} before, {found.after:.2f} after; of the best there are "
            f"{found.best:.2f}"
        )
        work = replace(work, lm_weight=found.lm_weight, length_weight=found.length_weight)
    run_bulk(work, job)


def _tuned(work: RerankWork, path: str, reference_column: str) -> Tuned:
    rows, references = [], []
    for file in expand_paths(path, (".parquet",)):
        location = open_location(file)
        table = pq.read_table(location.path, filesystem=location.filesystem)
        missing = [name for name in (COLUMN, reference_column) if name not in table.column_names]
        if missing:
            raise DataError(f"there is no column '{missing[0]}'", where=Place(file), todo="check tune_on=...")
        rows += read_hypotheses(table)
        references += _references(table.column(reference_column))
    kept = [(row, right) for row, right in zip(rows, references, strict=True) if row and right]
    if not kept:
        raise DataError(f"{path} has no row with hypotheses and a reference", todo="check tune_on=...")
    scorer, _ = work.scorer()
    features = features_of([row for row, _ in kept], scorer)
    quality = sentence_chrf(
        [one["text"] for row, _ in kept for one in row], [right for row, right in kept for _ in row]
    )
    lm_weights = LM_WEIGHTS if scorer is not None else np.zeros(1)
    return tune(
        features.logprob,
        features.lm_logprob,
        features.num_tokens,
        features.starts,
        quality,
        lm_weights=lm_weights,
        length_weights=LENGTH_WEIGHTS,
    )


def _references(column: pa.ChunkedArray) -> list[list[str]]:
    """One right answer a row, or several."""
    return [
        [] if value is None else [value] if isinstance(value, str) else [one for one in value if one is not None]
        for value in column.to_pylist()
    ]


if __name__ == "__main__":
    run_job("rerank", RerankJob, rerank)
