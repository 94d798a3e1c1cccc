"""Take an n-gram model that was estimated elsewhere (KenLM's lmplz, SRILM and the like), from an ARPA file.

    python -m jobs.import_ngram arpa=model.arpa.gz tokenizer_path=outputs/tokenizer output=outputs/ngram

The output is given wherever `ngram` is asked for. Words of the file are pieces of the tokenizer, <s> begins a document,
</s> ends it, and tokens that the file does not list share the probability of <unk>.
"""

import hashlib

from jobs.app import run_job
from jobs.same_model import refuse_another
from jobs.schemas import ImportNgramJob
from rnnlm.data.formats.text_blocks import byte_chunks
from rnnlm.data.tokenizers import load_tokenizer
from rnnlm.ngram.read_arpa import read_arpa
from rnnlm.ngram.store import CONFIG, FILES, save_ngram
from rnnlm.storage import open_location


def import_ngram(job: ImportNgramJob) -> None:
    """Read and save. The same file again writes the same bytes."""
    folder = open_location(job.output)
    tokenizer = load_tokenizer(open_location(job.tokenizer_path))
    model = read_arpa(job.arpa, tokenizer)
    digest = hashlib.sha256()
    for chunk in byte_chunks(open_location(job.arpa), None):
        digest.update(chunk)
    identity = {"arpa": digest.hexdigest(), "tokenizer": tokenizer.fingerprint}
    refuse_another(folder, CONFIG, identity, begun=FILES, what="an n-gram model")
    folder.make_dir()
    save_ngram(folder, model, tokenizer, {"identity": identity})
    print(
        f"import_ngram: {' + '.join(f'{number:,}' for number in model.num_ngrams)} n-grams of order 1 to {model.order}"
    )
    if len(model.unlisted):
        print(f"{len(model.unlisted):,} tokens without a 1-gram share the probability of <unk>")
    print(f"output: {job.output}")


if __name__ == "__main__":
    run_job("import_ngram", ImportNgramJob, import_ngram)
