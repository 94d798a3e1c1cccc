"""The stream of `jobs.evaluate` predicted by more than one trained model: cache, adaptation, ensemble, n-grams."""

import dataclasses
from collections.abc import Callable

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from jobs.progress import ProgressLine, progress_line
from jobs.schemas import EvaluateJob
from rnnlm.checkpoint import load_checkpoint
from rnnlm.data.tokens import TokenTable, read_token_table
from rnnlm.evaluation.beside_ngram import Curve, beside_ngram, measure_curve
from rnnlm.evaluation.stream import Strengthened, stream_totals
from rnnlm.inference.ensemble import check_same_tokenizer, ensemble
from rnnlm.inference.stream.adaptation import DynamicEvaluationConfig
from rnnlm.inference.stream.cache import ContinuousCacheConfig
from rnnlm.inference.stream.fit import fit_cache
from rnnlm.inference.stream.scorer import Logprobs, StreamScorer
from rnnlm.ngram import load_ngram
from rnnlm.ngram.store import StoredNGram
from rnnlm.storage import open_location


def strengthen(job: EvaluateJob) -> Strengthened:
    """Score the stream with all that the job asks for, and write its log-probabilities if wanted."""
    assert job.checkpoint is not None
    assert job.tokens is not None
    checkpoints = [load_checkpoint(path) for path in (job.checkpoint, *job.ensemble)]
    tokenizer = checkpoints[0].tokenizer
    table = read_token_table(job.tokens, tokenizer)
    statistics = read_token_table(job.statistics, tokenizer) if job.statistics else None
    ngram = load_ngram(job.ngram) if job.ngram else None
    check_same_tokenizer(checkpoints, ngram)
    held_out, beside = None, None
    if job.fit_on:
        fit_on = read_token_table(job.fit_on, tokenizer)
        job, held_out = fitted(job, StreamScorer(checkpoints[0]), fit_on, ngram)
    each, total = [], len(checkpoints) * table.num_targets
    with progress_line("evaluate", total) as line:
        for number, checkpoint in enumerate(checkpoints):
            scorer = StreamScorer(checkpoint, cache=job.cache, adaptation=job.adaptation, statistics=statistics)
            each.append(scorer.logprobs(table, shown(line, number * table.num_targets, total)))
    found = ensemble(each)
    if ngram is not None:
        beside, found = beside_ngram(found, ngram.model, table, job.ngram_weight, held_out)
    if job.token_logprobs:
        write_logprobs(job.token_logprobs, table, found)
    return Strengthened(means_of(job), stream_totals(table, tokenizer, -float(found.sum()), table.num_targets), beside)


def fitted(
    job: EvaluateJob, scorer: StreamScorer, table: TokenTable, ngram: StoredNGram | None
) -> tuple[EvaluateJob, Curve | None]:
    """The job with the values that make `table` most probable under the first model, as it was trained; and what the
    n-grams' weight makes of it."""
    with progress_line("evaluate: fit", table.num_targets) as line:
        show = shown(line, 0, table.num_targets)
        if isinstance(job.cache, ContinuousCacheConfig):
            found = fit_cache(scorer, table, size=job.cache.size, on_progress=show)
            job, logprobs = dataclasses.replace(job, cache=found.config), found.mixed
        else:
            logprobs = scorer.logprobs(table, show)
    if ngram is None:
        return job, None
    curve = measure_curve(logprobs, ngram.model.table_logprobs(table))
    return dataclasses.replace(job, ngram_weight=curve.best_weight), curve


def shown(line: ProgressLine, before: int, total: int) -> Callable[[int], None]:
    """Shows how many targets are done, those of the models before included."""
    return lambda done: line.update(before + done, f"{before + done:,} of {total:,} targets")


def means_of(job: EvaluateJob) -> list[str]:
    """What helps the trained model, in words."""
    means = []
    if isinstance(job.cache, ContinuousCacheConfig):
        values = f"flatness {job.cache.flatness:.3g}, weight {job.cache.weight:.3g}"
        means.append(f"a continuous cache of {job.cache.size:,} ({values})")
    if isinstance(job.adaptation, DynamicEvaluationConfig):
        means.append(f"dynamic evaluation every {job.adaptation.segment} targets")
    if job.ensemble:
        means.append(f"an ensemble of {1 + len(job.ensemble)} models")
    if job.ngram:
        means.append(f"n-grams (weight {job.ngram_weight:.3g})")
    return means or ["nothing but the trained model"]


def write_logprobs(path: str, table: TokenTable, logprobs: Logprobs) -> None:
    """One row a document: the log-probability of each of its tokens and of its end, nats."""
    offsets = table.offsets + np.arange(len(table.offsets))  # each document has its end as one more target
    column = pa.ListArray.from_arrays(pa.array(offsets.astype(np.int32)), pa.array(logprobs))
    sink = pa.BufferOutputStream()
    pq.write_table(pa.table({"token_logprobs": column}), sink)
    open_location(path).write_bytes(sink.getvalue().to_pybytes())
