"""How the models of a bulk job compute: as asked, as an earlier command on the same output settled it, or by trial."""

import sys

from jobs.schemas import BulkJob, ScoreJob
from rnnlm.bulk.engine import prepare
from rnnlm.bulk.estimate import sample_rows
from rnnlm.bulk.output import OutputFolder
from rnnlm.config import from_dict
from rnnlm.errors import ConfigError
from rnnlm.inference.precision import SAMPLE_ROWS, Products
from rnnlm.inference.score_work import ScoreWork
from rnnlm.nn.prepared import Precision
from rnnlm.storage import open_location


def settled_products(precision: Precision, job: BulkJob, threads: int) -> Products:
    """In a given precision; an output that was begun keeps its kernels."""
    begun = begun_products(job)
    return Products(precision=precision, kernels=begun.kernels if begun else None).settled(threads)


def begun_products(job: BulkJob) -> Products | None:
    """How an earlier command on the same output computed. With `auto` its precision stays too: the speeds that a trial
    measures differ from day to day."""
    folder = OutputFolder(open_location(job.output))
    recorded = folder.plan()["recipe"]["work"].get("products") if folder.started else None
    return None if recorded is None else from_dict(Products, recorded)


def tried_products(work: ScoreWork, job: ScoreJob) -> Products:
    """The fastest products that do no harm to the scores of a sample of the corpus."""
    if job.cluster.gpu_workers:
        raise ConfigError(
            "precision: auto cannot be tried for GPU workers from here; take bfloat16, float16 or float32"
        )
    plan = prepare(work, job.corpus, job.output, target_seconds=job.shard_seconds, kind=job.shards)
    table = sample_rows(plan.run, plan.shards, SAMPLE_ROWS)
    products = work.choose_products(table).settled(job.threads)
    found = "no faster precision keeps the perplexity within 0.1 %"
    if products.trial is not None:
        trial = products.trial
        found = (
            f"perplexity {trial.perplexity_change:+.4%}, a row's log-probability by {trial.largest_row_change} nats at "
            f"most, on {trial.rows:,} rows"
        )
    print(f"{work.job}: precision {products.precision} ({found})", file=sys.stderr)
    return products
