"""Make a checkpoint of a language model that was trained elsewhere with torch: embedding, LSTM, GRU or RNN, linear.

python -m jobs.import_weights weights=model.safetensors tokenizer_path=outputs/tokenizer output=outputs/imported

Names are those of pytorch/examples word_language_model or salesforce/awd-lstm-lm. A .pt file must hold a state dict; no
code in it is run.
"""

from jobs.app import run_job
from jobs.same_model import refuse_another
from jobs.schemas import ImportWeightsJob
from rnnlm.checkpoint import CONFIG, WEIGHTS
from rnnlm.data.tokenizers import load_tokenizer
from rnnlm.data.tokenizers.base import CARD_FILE, MODEL_FILE
from rnnlm.export.foreign_weights import import_language_model, read_foreign
from rnnlm.storage import open_location


def import_weights(job: ImportWeightsJob) -> None:
    """Run it. The same weights again write the same files."""
    weights, digest = read_foreign(open_location(job.weights))
    tokenizer = load_tokenizer(open_location(job.tokenizer_path))
    folder = open_location(job.output)
    identity = {"weights": digest, "tokenizer": tokenizer.fingerprint, "nonlinearity": job.nonlinearity}
    refuse_another(folder, CONFIG, identity, begun=(WEIGHTS, MODEL_FILE, CARD_FILE), what="imported weights")
    task = import_language_model(weights, tokenizer, folder, {"identity": identity}, job.nonlinearity)
    cells = ", ".join(
        f"{type(cell).__name__.removesuffix('Config')} {cell.output_size(1)}" for cell in task.layers or []
    )
    tied = "tied" if task.softmax.tied else "untied"
    print(f"import_weights: embedding {task.embedding_size}, {cells}, softmax {tied}, {tokenizer.vocab_size:,} tokens")
    print(f"output: {job.output}")


if __name__ == "__main__":
    run_job("import_weights", ImportWeightsJob, import_weights)
