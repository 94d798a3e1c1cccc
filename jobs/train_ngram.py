"""Count an n-gram model with Kneser-Ney smoothing over a token table: the baseline of every language model.

    python -m jobs.train_ngram tokens=outputs/tokens/train valid_tokens=outputs/tokens/valid \
        tokenizer_path=outputs/tokenizer output=outputs/ngram order=5
"""

import math
import time
from dataclasses import fields
from typing import Any

from jobs.app import run_job
from jobs.same_model import refuse_another
from jobs.schemas import TrainNgramJob
from rnnlm.config import to_dict
from rnnlm.data.tokenizers import load_tokenizer
from rnnlm.data.tokens import TokenTable, read_token_table
from rnnlm.ngram.config import NGramConfig
from rnnlm.ngram.model import NGramModel
from rnnlm.ngram.store import CONFIG, FILES, save_ngram
from rnnlm.storage import open_location


def train_ngram(job: TrainNgramJob) -> None:
    """Count, save, and say how well it does. The same job again writes the same bytes."""
    folder = open_location(job.output)
    tokenizer = load_tokenizer(open_location(job.tokenizer_path))
    table = read_token_table(job.tokens, tokenizer)
    valid = read_token_table(job.valid_tokens, tokenizer) if job.valid_tokens is not None else None
    settings = NGramConfig(**{field.name: getattr(job, field.name) for field in fields(NGramConfig)})
    identity = {**to_dict(settings), "tokenizer": tokenizer.fingerprint, "tokens": table.fingerprint}
    refuse_another(folder, CONFIG, identity, begun=FILES, what="an n-gram model")
    began = time.perf_counter()
    model = settings.train(table, tokenizer)
    seconds = time.perf_counter() - began
    trained: dict[str, Any] = {"identity": identity, "documents": table.num_documents, "targets": table.num_targets}
    if valid is not None:
        trained["valid_nll"] = _nll(model, valid)
    save_ngram(folder, model, tokenizer, trained)
    folder.join("settings.json").write_json(to_dict(job))
    print(
        f"train_ngram: {' + '.join(f'{number:,}' for number in model.num_ngrams)} n-grams of order 1 to {model.order} "
        f"from {table.num_targets:,} targets in {seconds:.1f} s{_validation(trained)}"
    )
    given = [str(order) for order, one in enumerate(model.discounts, start=1) if not one.estimated]
    if given:
        print(f"the counts of order {', '.join(given)} give no discounts; took fallback_discounts instead")
    print(f"output: {job.output}")


def _nll(model: NGramModel, table: TokenTable) -> float:
    """Nats a target."""
    return float(-model.table_logprobs(table).mean())


def _validation(trained: dict[str, Any]) -> str:
    nll = trained.get("valid_nll")
    return "" if nll is None else f"; validation {nll:.4f} nats a target, perplexity {math.exp(nll):.2f}"


if __name__ == "__main__":
    run_job("train_ngram", TrainNgramJob, train_ngram)
