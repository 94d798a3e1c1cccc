"""The configuration of each job, field by field. Defaults of `conf/<job>.yaml` and of these classes are the same."""

from typing import Literal

from pydantic import Field

from rnnlm.config import config
from rnnlm.data.formats.base import CorpusConfig
from rnnlm.data.tokenizers import TokenizerConfig
from rnnlm.decoding.base import DecodingConfig
from rnnlm.training.loop import TrainingConfig
from rnnlm.training.metrics import TrackerConfig


@config
class ClusterConfig:
    """Who does the work of a bulk job."""

    address: str | None = None
    "Address of a Ray cluster; null joins the one that runs here, or starts one."
    workers: int | None = Field(default=None, ge=0)
    "Ray workers; 0 works in this process without Ray, null takes a worker a core if the work is long enough."
    ray_from_seconds: float = Field(default=60.0, ge=0.0)
    "With workers=null: use Ray from this much estimated work of one core on."
    shard_seconds: float = Field(default=30.0, gt=0.0)
    "Estimated work of one core a shard; a shard is what is lost when a worker dies."
    max_attempts: int = Field(default=2, ge=1)
    "How often a shard may kill its worker before it is set aside."


@config
class TrainTokenizerJob:
    """python -m jobs.train_tokenizer: learn a vocabulary from the texts of a corpus."""

    corpus: CorpusConfig
    "Where the texts come from."
    tokenizer: TokenizerConfig
    "What kind of vocabulary is learned."
    output: str
    "Folder for the tokenizer."
    max_bytes: int = Field(default=20_000_000, ge=1)
    "Text used at most; from a larger corpus an evenly spread sample of documents is taken."
    seed: int = Field(default=1, ge=0)
    "Decides which documents are in the sample."


@config
class TokenizeCorpusJob:
    """python -m jobs.tokenize_corpus: turn a text column into a token table."""

    corpus: CorpusConfig
    "Where the texts come from."
    cluster: ClusterConfig
    "Who does the work."
    tokenizer_path: str
    "Folder of the tokenizer."
    output: str
    "Folder for the token table."
    keep_columns: list[str] = Field(default_factory=list)
    "Input columns that go along."


@config
class TrainJob(TrainingConfig):
    """python -m jobs.train: train a model on token tables."""

    train_tokens: str
    "Token table to learn from."
    valid_tokens: str
    "Token table to validate on."
    tokenizer_path: str
    "Folder of the tokenizer the tables were made with."
    output: str
    "Run folder: checkpoints, metrics, settings."
    tracker: TrackerConfig
    "Where measurements go beside metrics.jsonl."
    workers: int = Field(default=1, ge=1)
    "Data-parallel workers; 1 trains in this process, more train as Ray Train workers."
    threads: int | None = Field(default=None, ge=1)
    "Threads of each worker; null shares out the cores of this machine."
    device: Literal["auto", "cpu", "cuda"] = "auto"
    "Where to train; auto takes a GPU if there is one."
    address: str | None = None
    "Address of a Ray cluster; null joins the one that runs here, or starts one."


@config
class ScoreJob:
    """python -m jobs.score: add the log-probability of each text to a corpus."""

    corpus: CorpusConfig
    "What is scored."
    cluster: ClusterConfig
    "Who does the work."
    checkpoint: str
    "Run folder (its best checkpoint is taken) or checkpoint folder."
    output: str
    "Folder for the scored corpus."
    token_logprobs: bool = False
    "Also write the log-probability of each token."
    threads: int = Field(default=1, ge=1)
    "Threads of a worker."


@config
class GenerateJob:
    """python -m jobs.generate: continue the prompts of a corpus."""

    corpus: CorpusConfig
    "Where the prompts are (corpus.text_column); corpus=inline takes them from corpus.texts."
    decoding: DecodingConfig
    "How tokens are chosen."
    cluster: ClusterConfig
    "Who does the work."
    checkpoint: str
    "Run folder (its best checkpoint is taken) or checkpoint folder."
    output: str
    "Folder for prompts and continuations."
    num_hypotheses: int = Field(default=1, ge=1)
    "Continuations of each prompt."
    seed: int = Field(default=1, ge=0)
    "Root of the randomness."
    threads: int = Field(default=1, ge=1)
    "Threads of a worker."


@config
class EvaluateJob:
    """python -m jobs.evaluate: perplexity, bits per byte and a report, over scored data or a token stream."""

    output: str
    "Folder for report.html, report.md and report.json."
    scored: str | None = None
    "Scored data: the output of jobs.score, or any Parquet with logprob and num_tokens."
    text_column: str | None = "text"
    "Column of the scored text; with null there are no figures a byte or a character."
    group_by: str | None = None
    "Column to break the figures down by."
    id_column: str | None = None
    "Column that names a document in the report."
    run: str | None = None
    "Run folder of jobs.train, for the learning curve and settings."
    samples: str | None = None
    "Output of jobs.generate, to show some."
    checkpoint: str | None = None
    "Model for the perplexity of `tokens`."
    tokens: str | None = None
    "Token table read as one stream with carried state: the standard figure of word-level benchmarks."
    lanes: int = Field(default=1, ge=1)
    "Lanes of that stream; 1 is the standard, more are faster and lose context where a lane begins."
    title: str = "Recurrent language model"
    "Heading of the report."

    def __post_init__(self) -> None:
        if self.scored is None and self.tokens is None:
            raise ValueError("give scored=... (the output of jobs.score), or checkpoint=... and tokens=...")
        if (self.tokens is None) != (self.checkpoint is None):
            raise ValueError("checkpoint and tokens belong together; give both or none")
