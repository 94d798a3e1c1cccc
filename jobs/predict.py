"""Label the words of a corpus with a tagger: `labels` and `confidence`, or `entities`; `error`. A classifier gives each
row its `label` and `confidence`; a model of nested spans gives `entities` of any depth.

python -m jobs.predict checkpoint=outputs/tagger/model corpus=conllu corpus.path=test.conllu prefix=predicted_ \
    output=outputs/tagged
python -m jobs.predict checkpoint=outputs/ner/model corpus=lines corpus.path=news.txt words_column=text \
    output=outputs/entities
python -m jobs.predict checkpoint=outputs/sentiment/model corpus=lines corpus.path=reviews.txt words_column=text \
    probabilities=true output=outputs/classified

A baseline of jobs.train_baseline is given as `checkpoint` too; `calibration` is the output of jobs.calibrate.
"""

from dataclasses import fields

from jobs.app import run_job
from jobs.bulk import run_bulk
from jobs.products import settled_products
from jobs.schemas import PredictJob
from rnnlm.bulk.output import OutputFolder
from rnnlm.inference.predict.options import PredictSettings
from rnnlm.inference.predict_work import PredictWork, reads
from rnnlm.storage import open_location


def predict(job: PredictJob) -> None:
    """Run it."""
    listing = job.corpus.list_units(OutputFolder(open_location(job.output)).known_listing())
    splits, text_column = reads(listing.schema, job.words_column, job.corpus.text_column)
    chosen = {field.name: getattr(job, field.name) for field in fields(PredictSettings)}
    addresses = {name: open_location(chosen[name]).address for name in ("checkpoint", "calibration") if chosen[name]}
    products = settled_products(job.precision, job, job.threads)
    work = PredictWork(**{**chosen, **addresses}, splits=splits, text_column=text_column, products=products)
    work.check_model()
    run_bulk(work, job, listing=listing)


if __name__ == "__main__":
    run_job("predict", PredictJob, predict)
