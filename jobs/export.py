"""Write a model in a format of others: a folder for the Hugging Face hub, ONNX graphs, or n-grams as an ARPA file.

python -m jobs.export checkpoint=outputs/model format=huggingface output=outputs/hub
python -m jobs.export checkpoint=outputs/model format=onnx output=outputs/onnx
python -m jobs.export checkpoint=outputs/ngram format=arpa output=outputs/arpa

rnnlm.load reads the first, whatever runs ONNX the second (language models only), KenLM, SRILM and the like the third.
"""

from jobs.app import run_job
from jobs.same_model import refuse_another
from jobs.schemas import ExportJob
from rnnlm.baselines.stored import is_baseline
from rnnlm.checkpoint import CONFIG, load_checkpoint, resolve_checkpoint
from rnnlm.errors import ConfigError, EnvironmentFailure
from rnnlm.export import huggingface
from rnnlm.ngram import load_ngram
from rnnlm.ngram.write_arpa import write_arpa
from rnnlm.storage import open_location

ARPA = "model.arpa"


def export(job: ExportJob) -> None:
    """Run it. The same model again writes the same files."""
    if job.format == "arpa":
        _export_arpa(job)
        return
    if is_baseline(resolve_checkpoint(job.checkpoint)):
        raise ConfigError("checkpoint: it is a baseline; only networks can be exported")
    checkpoint = load_checkpoint(job.checkpoint)
    write, files = huggingface.export_huggingface, huggingface.FILES
    if job.format == "onnx":
        try:
            from rnnlm.export import onnx  # noqa: PLC0415 - an extra
        except ImportError as error:
            raise EnvironmentFailure(
                f"format=onnx needs the package {error.name}", todo="pip install 'rnnlm[onnx]'"
            ) from error
        write, files = onnx.export_onnx, onnx.FILES
    folder = open_location(job.output)
    identity = {"format": job.format, "model": checkpoint.fingerprint}
    refuse_another(folder, CONFIG, identity, begun=files, what="an export")
    folder.make_dir()
    write(checkpoint, folder, identity)
    print(f"export: {type(checkpoint.model).__name__} as {', '.join(files)}")
    print(f"output: {job.output}")


def _export_arpa(job: ExportJob) -> None:
    stored, folder = load_ngram(job.checkpoint), open_location(job.output)
    identity = {"format": job.format, "model": stored.fingerprint}
    refuse_another(folder, CONFIG, identity, begun=(ARPA,), what="an export")
    folder.make_dir()
    write_arpa(stored.model, stored.tokenizer, folder.join(ARPA))
    folder.join(CONFIG).write_json({"trained": {"identity": identity}})
    print(f"export: {' + '.join(f'{one:,}' for one in stored.model.num_ngrams)} n-grams as {ARPA}")
    print(f"output: {job.output}")


if __name__ == "__main__":
    run_job("export", ExportJob, export)
