"""Learn a vocabulary from the texts of a corpus: `tokenizer.model` and its card `tokenizer.json`.

python -m jobs.train_tokenizer corpus=stdlib tokenizer=unigram tokenizer.vocab_size=8192 output=outputs/tokenizer
"""

from collections.abc import Iterator

from jobs.app import run_job
from jobs.schemas import TrainTokenizerJob
from rnnlm.config import to_dict
from rnnlm.data.listing import Listing
from rnnlm.data.tokenizers.base import CARD_FILE, MODEL_FILE, SAMPLE_TEXTS
from rnnlm.determinism import derive_seed
from rnnlm.errors import DataError, RefusedError
from rnnlm.storage import open_location


def train_tokenizer(job: TrainTokenizerJob) -> None:
    """Train, save, and say how well it does."""
    folder = open_location(job.output)
    foreign = [name for name in folder.list_files() if name != MODEL_FILE]  # the model is written before its card
    if foreign and not folder.join(CARD_FILE).exists():
        raise RefusedError(folder.uri, [f"it holds {', '.join(foreign[:3])} and no {CARD_FILE}"])
    listing = job.corpus.list_units()
    head: list[str] = []
    tokenizer = job.tokenizer.train(_sample(job, listing, head))
    if folder.join(CARD_FILE).exists() and folder.join(CARD_FILE).read_json()["fingerprint"] != tokenizer.fingerprint:
        raise RefusedError(folder.uri, ["fingerprint: the tokenizer there is another one"])
    tokenizer.save(folder, sample=head)
    folder.join("settings.json").write_json(to_dict(job))
    card = tokenizer.card(head)
    print(
        f"train_tokenizer: {card['vocab_size']:,} tokens, {card['sample']['bytes_per_token']:.2f} bytes a token, "
        f"unknown {card['sample']['unknown_share']:.2%}, restored exactly {card['sample']['restored_share']:.1%}\n"
        f"output: {job.output}"
    )


def _sample(job: TrainTokenizerJob, listing: Listing, head: list[str]) -> Iterator[str]:
    """An evenly spread, reproducible sample of documents; its first texts also go to `head`."""
    share = min(1.0, job.max_bytes / max(1, listing.num_bytes))
    threshold = int(share * (1 << 63))
    for index, text in enumerate(job.corpus.iterate_texts(listing)):
        if share >= 1.0 or derive_seed(job.seed, "tokenizer sample", index) < threshold:
            if len(head) < SAMPLE_TEXTS:
                head.append(text)
            yield text
    if not head:
        raise DataError("the corpus has no text that is not empty", todo="check corpus.path and corpus.text_column")


if __name__ == "__main__":
    run_job("train_tokenizer", TrainTokenizerJob, train_tokenizer)
