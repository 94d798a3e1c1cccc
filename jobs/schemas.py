"""The configuration of each job, field by field. Defaults of `conf/<job>.yaml` and of these classes are the same."""

from typing import Literal

from pydantic import Field

from rnnlm.baselines.base import BaselineConfig
from rnnlm.bulk.plan import ShardKind
from rnnlm.config import config
from rnnlm.data.formats.base import CorpusConfig
from rnnlm.data.labelled import LabelsOf
from rnnlm.data.labels.schemes import Scheme
from rnnlm.data.tokenizers import TokenizerConfig
from rnnlm.data.vector_files.write import VectorFormat
from rnnlm.decoding.base import DecodingConfig
from rnnlm.evaluation.metric_names import Unit, check_metrics
from rnnlm.export.foreign_weights import Nonlinearity
from rnnlm.filtering.partitions import MIN_GROUP_ROWS, NAMES, QUANTILES
from rnnlm.inference.embed import RowPooling
from rnnlm.inference.predict.options import PredictSettings
from rnnlm.inference.stream.adaptation import AdaptationConfig, NoAdaptationConfig
from rnnlm.inference.stream.cache import CacheConfig, NoCacheConfig
from rnnlm.ngram.config import NGramConfig
from rnnlm.nn.prepared import Precision
from rnnlm.tasks.base import TaskConfig
from rnnlm.training.metrics import TrackerConfig
from rnnlm.training.settings import TrainingConfig


@config
class ClusterConfig:
    """Who does the work of a bulk job."""

    address: str | None = None
    "Address of a Ray cluster; null joins that of `ray start` on this machine, or starts one."
    workers: int | None = Field(default=None, ge=0)
    "Ray workers without a GPU; 0 works in this process without Ray, null takes as many as fit if the work is long."
    gpu_workers: int = Field(default=0, ge=0)
    "Ray workers with a GPU, beside the others. They round otherwise than CPUs: mix them and last digits vary."
    cpus: float = Field(default=1.0, ge=0.0)
    "CPUs of each worker."
    gpus: float = Field(default=1.0, gt=0.0)
    "GPUs of each worker that has one; with 0.25, four share one."
    autoscaling: bool = False
    "The cluster grows on demand: more workers may be asked for than fit now."
    ray_from_seconds: float = Field(default=60.0, ge=0.0)
    "With workers=null: use Ray from this much estimated work of one core on."
    max_attempts: int = Field(default=3, ge=1)
    "How often a shard may end its worker, or hang, before it is set aside."
    stall_seconds: float = Field(default=900.0, gt=0.0)
    "A worker that does not move for so long is ended, and its shard tried again."
    grace_seconds: float = Field(default=10.0, ge=0.0)
    "After SIGTERM, shards in work may take so long to finish."


@config
class BulkJob:
    """What all jobs over whole corpora have in common."""

    corpus: CorpusConfig
    "Where the rows come from."
    cluster: ClusterConfig
    "Who does the work."
    output: str
    "Output folder: data/, the records of the run in _run/, and _SUCCESS when all is done."
    shards: ShardKind = "auto"
    "What a shard is: about shard_seconds of work, a row group, or a file."
    shard_seconds: float = Field(default=30.0, gt=0.0)
    "Estimated work of one core a shard; a shard is what is lost when a worker dies."
    error_budget: float = Field(default=0.1, ge=0.0, le=1.0)
    "The largest share of rows that may carry an error, null texts apart; with more the run stops."
    retry_errors: bool = False
    "Try the rows with an error of a finished output again, and only those."
    dry_run: bool = False
    "Only say how long it would take and how large the output would be, from a timed sample."


@config
class TrainTokenizerJob:
    """python -m jobs.train_tokenizer: learn a vocabulary from the texts of a corpus."""

    corpus: CorpusConfig
    "Where the texts come from."
    tokenizer: TokenizerConfig
    "What kind of vocabulary is learned."
    target_column: str | None = None
    "Column of what belongs to each text (its translation, say), for a tokenizer of pairs; null: of single texts."
    target_tokenizer: TokenizerConfig | None = None
    "What kind of vocabulary is learned for the targets; null takes that of the texts."
    joint: bool = False
    "One vocabulary for texts and targets, learned from both."
    words_column: str = "words"
    "With `labels_column`: column of words, or of text that is split into words."
    labels_column: str | None = None
    "Column of a label a word, of the class of each row, or of spans, for tokenizer=labels; null: texts have none."
    labels_of: LabelsOf = "auto"
    "What labels are of; auto: a string is the class of a row, a list has one a word. rows: a list of classes."
    intents_column: str | None = None
    "Column of the intent of each row, or of a list of several, where words have labels too (of slots)."
    output: str
    "Folder for the tokenizer."
    max_bytes: int = Field(default=20_000_000, ge=1)
    "Text used at most; from a larger corpus an evenly spread sample of documents is taken."
    seed: int = Field(default=1, ge=0)
    "Decides which documents are in the sample."

    def __post_init__(self) -> None:
        if self.target_column is None and (self.joint or self.target_tokenizer is not None):
            raise ValueError("joint and target_tokenizer are about pairs; name the targets: target_column=...")
        if self.intents_column is not None and self.labels_column is None:
            raise ValueError("intents_column needs labels_column: the labels of the slots")
        if self.joint and self.target_tokenizer is not None:
            raise ValueError("with joint=true there is one vocabulary; leave out target_tokenizer")


@config
class TokenizeCorpusJob(BulkJob):
    """python -m jobs.tokenize_corpus: turn a text column into a token table."""

    tokenizer_path: str
    "Folder of the tokenizer."
    target_column: str | None = None
    "Column of what belongs to each text (its translation, say), for a table of pairs; null: of single texts."
    words_column: str = "words"
    "With `labels_column`: column of words, or of text that is split into words."
    labels_column: str | None = None
    "Column of a label a word, of the class of each row, or of spans, for a labelled table; null: texts have no labels."
    labels_of: LabelsOf = "auto"
    "What labels are of; auto: a string is the class of a row, a list has one a word. rows: a list of classes."
    intents_column: str | None = None
    "Column of the intent of each row, or of a list of several, where words have labels too (of slots)."
    keep_columns: list[str] = Field(default_factory=list)
    "Input columns that go along."

    def __post_init__(self) -> None:
        if self.target_column is not None and self.labels_column is not None:
            raise ValueError("target_column and labels_column exclude each other: a table has targets or labels")
        if self.intents_column is not None and self.labels_column is None:
            raise ValueError("intents_column needs labels_column: the labels of the slots")


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
    init_from: str | None = None
    "Run folder or checkpoint whose weights to begin with (fine-tuning); null begins with fresh ones."
    tracker: TrackerConfig
    "Where measurements go beside metrics.jsonl."
    workers: int = Field(default=1, ge=1)
    "Data-parallel workers; 1 trains in this process, more train as Ray Train workers."
    optimizer_sharding: bool = False
    "Each worker keeps its part of the optimizer's state only, for half as much communication again (adamw, sgd)."
    threads: int | None = Field(default=None, ge=1)
    "Threads of each worker; null shares out the cores of this machine."
    device: Literal["auto", "cpu", "cuda"] = "auto"
    "Where to train; auto takes a GPU if there is one."
    address: str | None = None
    "Address of a Ray cluster; null joins that of `ray start` on this machine, or starts one."


@config
class TuneConfig:
    """How jobs.tune searches."""

    space: list[str] = Field(default_factory=list)
    "Overrides of jobs.train in Hydra's sweep syntax; on the command line they may stand alone, outside this list."
    search: Literal["random", "optuna"] = "random"
    "Where the next trial is taken from: drawn at random, or by Optuna from how the others went (extra `tune`)."
    scheduler: Literal["asha", "pbt", "none"] = "asha"
    "asha stops the worse trials early; pbt lets them go on from the better ones with perturbed parameters."
    trials: int = Field(default=20, ge=1)
    "Trials in all; of pbt, the size of the population."
    minutes: float | None = Field(default=None, gt=0.0)
    "Minutes after which the search ends; null for no limit."
    grace_percent: int = Field(default=10, ge=1, le=99)
    "asha: the part of a training that every trial is given."
    reduction: float = Field(default=3.0, gt=1.0)
    "asha: one of so many trials goes on, each time that trainings are so many times as far."
    perturb_percent: int = Field(default=10, ge=1, le=99)
    "pbt: the part of a training after which trials are compared again."
    num_cpus: float = Field(default=1.0, gt=0.0)
    "CPUs of each trial; it has as many threads, at least one, unless `threads` says otherwise."
    num_gpus: float = Field(default=0.0, ge=0.0)
    "GPUs of each trial; 0.5 lets two share one, 0 keeps it on CPUs."
    max_parallel: int | None = Field(default=None, ge=1)
    "Trials at a time at most; null runs as many as fit."

    def __post_init__(self) -> None:
        if self.scheduler == "pbt" and self.search != "random":
            raise ValueError("pbt perturbs what it has drawn by itself; leave search=random")
        if self.scheduler == "pbt" and self.trials < 2:
            raise ValueError("pbt compares trials with one another; give two or more")


@config
class TuneJob(TrainJob):
    """python -m jobs.tune: search for the settings of jobs.train with the best validation loss."""

    tune: TuneConfig = Field(default_factory=TuneConfig)
    "How to search."

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.workers != 1:
            raise ValueError("workers: a trial of jobs.tune trains in one process; leave workers out")


@config
class TrainNgramJob(NGramConfig):
    """python -m jobs.train_ngram: count an n-gram model over a token table."""

    tokens: str
    "Token table to learn from."
    valid_tokens: str | None = None
    "Token table to measure the perplexity of; null measures none."
    tokenizer_path: str
    "Folder of the tokenizer the tables were made with."
    output: str
    "Folder for the model, its tokenizer and its card."


@config
class ImportNgramJob:
    """python -m jobs.import_ngram: take an n-gram model that was estimated elsewhere."""

    arpa: str
    "ARPA file of KenLM's lmplz, SRILM or another tool, plain, .gz, .xz or .zst; its words are the tokenizer's pieces."
    tokenizer_path: str
    "Folder of the tokenizer whose pieces the words are."
    output: str
    "Folder for the model, its tokenizer and its card; give it wherever `ngram` is asked for."


@config
class TrainBaselineJob:
    """python -m jobs.train_baseline: fit a classical tagger or classifier to a labelled table."""

    baseline: BaselineConfig
    "Which model."
    train_tokens: str
    "Labelled table to learn from."
    valid_tokens: str | None = None
    "Labelled table to measure on; null measures nothing."
    tokenizer_path: str
    "Folder of the tokenizer the tables were made with."
    multi_label: bool = False
    "A row has any number of classes, each predicted for itself."
    tune: bool = False
    "Choose the setting that matters most on `valid_tokens`: theta of hmm, inverse_regularization of bag_of_words."
    output: str
    "Folder for the model; give it to jobs.predict as its checkpoint."

    def __post_init__(self) -> None:
        if self.tune and self.valid_tokens is None:
            raise ValueError("tune needs valid_tokens=...: a table that was not learned from")


@config
class CalibrateJob:
    """python -m jobs.calibrate: fit the temperature and thresholds of a model to held-out rows."""

    checkpoint: str
    "Run folder (its best checkpoint is taken) or checkpoint folder, of a classifier or a model of nested spans."
    tokens: str
    "Held-out table of the kind that the model learned from."
    output: str
    "Folder for calibration.json; give it to jobs.predict as calibration=..."


@config
class ExportJob:
    """python -m jobs.export: write a model in a format of others."""

    checkpoint: str
    "Run folder (its best checkpoint is taken) or checkpoint folder; for arpa, that of an n-gram model."
    output: str
    "Folder of the export."
    format: Literal["huggingface", "onnx", "arpa"] = "huggingface"
    "A folder for the hub; ONNX graphs of a step and of a scorer (language models; extra `onnx`); or model.arpa."


@config
class ImportWeightsJob:
    """python -m jobs.import_weights: make a checkpoint of a language model that was trained elsewhere."""

    weights: str
    "State dict with the names of pytorch/examples or awd-lstm-lm: a .safetensors file, or a .pt file."
    tokenizer_path: str
    "Tokenizer folder with the model's vocabulary, in its order."
    output: str
    "Folder of the checkpoint."
    nonlinearity: Nonlinearity = "tanh"
    "Of Elman layers (torch.nn.RNN): weights do not tell."


@config
class ScoreJob(BulkJob):
    """python -m jobs.score: add the log-probability of each text to a corpus."""

    checkpoint: str
    "Run folder (its best checkpoint is taken) or checkpoint folder."
    target_column: str | None = None
    "Column of the targets that an encoder-decoder scores, given the texts as sources; null for a language model."
    cache: CacheConfig = Field(default_factory=NoCacheConfig)
    "Whether words that were seen a short while ago in the same text are likely again."
    ensemble: list[str] = Field(default_factory=list)
    "Further checkpoints that vote: the mean of their probabilities."
    ngram: str | None = None
    "Output of jobs.train_ngram or jobs.import_ngram whose probabilities are mixed in."
    ngram_weight: float = Field(default=0.1, ge=0.0, le=1.0)
    "Share of the n-gram model in the mixture."
    token_logprobs: bool = False
    "Also write the log-probability of each token."
    words: bool = False
    "Also write where each white-space separated word is and its log-probability, and that of the end of sequence."
    precision: Precision | Literal["auto"] = "float32"
    "Of products; int8 is two to four times as fast on CPUs. auto tries on some rows and keeps perplexity within 0.1 %."
    threads: int = Field(default=1, ge=1)
    "Threads of a worker."


@config
class GenerateJob(BulkJob):
    """python -m jobs.generate: continue the prompts of a corpus."""

    decoding: DecodingConfig
    "How tokens are chosen."
    checkpoint: str
    "Run folder (its best checkpoint is taken) or checkpoint folder."
    prefix_column: str | None = None
    "Column of how each target has to begin; null leaves that to the encoder-decoder."
    max_source_tokens: int | None = Field(default=None, ge=1)
    "A longer source is an error row, or is cut with `truncate`; null for no limit."
    truncate: bool = False
    "Cut sources that are too long, and say so in a column `truncated`."
    alignment: bool = False
    "Also write where the best hypothesis looked: `alignment`, `source_pieces`, `target_pieces`."
    num_hypotheses: int = Field(default=1, ge=1)
    "Continuations of each prompt: as many draws, or the best that a beam finds; greedy decoding has one."
    seed: int = Field(default=1, ge=0)
    "Root of the randomness."
    precision: Precision = "float32"
    "Of products; int8 is two to four times as fast on CPUs, and now and then another token wins."
    threads: int = Field(default=1, ge=1)
    "Threads of a worker."

    def __post_init__(self) -> None:
        self.decoding.check_hypotheses(self.num_hypotheses)


@config
class PredictJob(PredictSettings, BulkJob):
    """python -m jobs.predict: label the words of a corpus with a tagger, or its rows with a classifier."""

    precision: Precision = "float32"
    "Of products; int8 is faster on CPUs, and now and then another label wins."


@config
class EmbedJob(BulkJob):
    """python -m jobs.embed: give each row of a corpus a vector, the hidden state of a model that has read it."""

    checkpoint: str
    "Run folder (its best checkpoint is taken) or checkpoint folder."
    words_column: str | None = None
    "Of a model of words: column of words, or of text that is split into words; null takes words."
    pooling: RowPooling = "last"
    "How the states at all positions become one vector: the final one (of each direction), mean, or max by feature."
    layer: int = -1
    "Layer of the stack whose states are taken: from 1 at the bottom, or from -1 at the top downwards."
    normalise: bool = False
    "Make all vectors of length 1."
    vector_column: str = "vector"
    "Name of the new column."
    precision: Precision = "float32"
    "Of products; int8 is two to four times as fast on CPUs, and moves vectors a little."
    threads: int = Field(default=1, ge=1)
    "Threads of a worker."


@config
class NeighboursJob:
    """python -m jobs.neighbours: for each vector the vectors most like it by cosine, or for words the words."""

    cluster: ClusterConfig
    "Who does the work."
    vectors: str | None = None
    "Parquet with a column of vectors, such as the output of jobs.embed (its data/): file, folder or glob."
    queries: str | None = None
    "The same, with the vectors whose neighbours are looked for; null takes `vectors`, each row without itself."
    vector_column: str = "vector"
    "Column of the vectors, in both."
    id_column: str | None = None
    "Column that names a row, in both; null takes the number of the row, from 0."
    include_self: bool = False
    "Without `queries`: a row may be its own neighbour."
    checkpoint: str | None = None
    "Instead of `vectors`: run or checkpoint folder whose word embeddings are compared."
    words: list[str] | None = Field(default=None, min_length=1)
    "With `checkpoint`: the words whose neighbours are looked for."
    analogies: list[list[str]] | None = Field(default=None, min_length=1)
    "With `checkpoint`: triples [a, b, c], for each of which a word is looked for that is to c as b is to a."
    k: int = Field(default=10, ge=1)
    "Neighbours of each row at the most."
    min_cosine: float = Field(default=-1.0, ge=-1.0, le=1.0)
    "None that is less alike."
    output: str | None = None
    "Output folder: data/ and the records of the run; of words a table each of words and analogies, null only prints."
    threads: int = Field(default=1, ge=1)
    "Threads of a worker."
    shard_seconds: float = Field(default=30.0, gt=0.0)
    "Estimated work of one core a shard; a shard is what is lost when a worker dies."
    error_budget: float = Field(default=0.1, ge=0.0, le=1.0)
    "The largest share of queries that may have no direction, null ones apart; with more the run stops."
    dry_run: bool = False
    "Only say how long it would take and how large the output would be, from a timed sample."

    def __post_init__(self) -> None:
        if (self.vectors is None) == (self.checkpoint is None):
            raise ValueError(
                "give vectors=... (the output of jobs.embed) or checkpoint=... and words=[...], one of both"
            )
        if (self.checkpoint is None) != (self.words is None and self.analogies is None):
            raise ValueError("checkpoint and words belong together (or analogies); give both or none")
        for triple in self.analogies or []:
            if len(triple) != 3:
                raise ValueError(f"an analogy has three words, as in [man, king, woman], not {len(triple)}: {triple}")
        if self.vectors is not None and self.output is None:
            raise ValueError("neighbours of rows are written; name the output folder: output=...")
        if self.checkpoint is not None and (self.queries is not None or self.id_column is not None or self.dry_run):
            raise ValueError("queries, id_column and dry_run are about vectors=...; leave them out")
        if self.include_self and (self.queries is not None or self.checkpoint is not None):
            raise ValueError("include_self is about rows that are their own queries; leave it out")


@config
class RerankJob(BulkJob):
    """python -m jobs.rerank: put the hypotheses of jobs.generate into a better order."""

    language_model: str | None = None
    "Run or checkpoint of a language model of the targets; null for none."
    lm_weight: float = 0.0
    "Weight of its log-probability beside that of the encoder-decoder."
    length_weight: float = 0.0
    "What each token adds to the score; above 0 favours long texts."
    tune_on: str | None = None
    "Output of jobs.generate, on which both weights are chosen; null takes them as given."
    reference_column: str | None = None
    "Its column of right answers, one a row or a list."
    precision: Precision = "float32"
    "Of the language model's products."
    threads: int = Field(default=1, ge=1)
    "Threads of a worker."

    def __post_init__(self) -> None:
        if (self.tune_on is None) != (self.reference_column is None):
            raise ValueError("tune_on and reference_column belong together; give both or none")


@config
class FilterJob(BulkJob):
    """python -m jobs.filter: divide a scored corpus by its scores."""

    score_column: str = "bits_per_byte"
    "Column of the score; the partition named first gets the lowest scores, the text that the model expects most."
    group_by: list[str] = Field(default_factory=list)
    "Columns, such as [language, source], whose values together form groups; each is cut at its own quantiles."
    quantiles: list[float] = Field(default_factory=lambda: list(QUANTILES))
    "Where the scores of a group are cut, as shares of its rows."
    thresholds: list[float] | None = None
    "Cuts in the unit of the score, the same for all groups; take the place of quantiles."
    names: list[str] = Field(default_factory=lambda: list(NAMES))
    "Names of the partitions, one more than there are cuts."
    keep: list[str] | None = None
    "Partitions that are written; null writes all, and the rows without a score."
    min_group_rows: int = Field(default=MIN_GROUP_ROWS, ge=1)
    "A group with fewer scores is cut where all rows together are."
    partition_column: str = "partition"
    "Name of the column that tells the partition: data/partition=head/..."
    title: str = "Filtered by score"
    "Heading of the report."


@config
class CompactJob:
    """python -m jobs.compact: write a corpus again in files of equal size."""

    corpus: CorpusConfig
    "What is written again."
    cluster: ClusterConfig
    "Who does the work."
    output: str
    "Output folder: data/ and the records of the run."
    target_mb: float = Field(default=256.0, gt=0.0)
    "Megabytes of a part, about; measured by what its rows take in the files that are read."
    dry_run: bool = False
    "Only say how long it would take."


@config
class InspectJob:
    """python -m jobs.inspect: the state of a bulk output, or what a data set consists of."""

    path: str
    "Output folder of a bulk job, finished or not; or a file, folder or glob of Parquet."
    json: bool = False
    "Print JSON instead of text."


@config
class VerifyJob:
    """python -m jobs.verify: check a bulk output against its records and compute some of it again."""

    output: str
    "Output folder of a bulk job."
    sample: int = Field(default=2, ge=0)
    "Shards that are computed again and compared byte by byte; 0 only reads."
    seed: int = Field(default=1, ge=0)
    "Decides which."


@config
class EvaluateJob:
    """python -m jobs.evaluate: a report over scored data, a token stream, or outputs that have right answers."""

    output: str
    "Folder for report.html, report.md and report.json."
    cache: CacheConfig = Field(default_factory=NoCacheConfig)
    "Whether words of the stream that were seen a short while ago are likely again."
    adaptation: AdaptationConfig = Field(default_factory=NoAdaptationConfig)
    "Whether the model goes on learning while it reads the stream."
    scored: str | None = None
    "Scored data: the output of jobs.score, or any Parquet with logprob and num_tokens."
    text_column: str | None = "text"
    "Column of the scored text; with null there are no figures a byte, a character or a white-space word."
    group_by: str | None = None
    "Column to break the figures down by."
    id_column: str | None = None
    "Column that names a document in the report."
    run: str | None = None
    "Run folder of jobs.train, for the learning curve and settings."
    samples: str | None = None
    "Output of jobs.generate, to show some."
    hypotheses: str | None = None
    "Output of jobs.generate to hold against references; its first hypothesis of each row is judged."
    reference_column: str | None = None
    "Column of `hypotheses` with the right answer (text, or texts that all count as right), or of `predictions`."
    source_column: str | None = None
    "Column of what was given, to show it and to break the figures down by its length."
    baseline_column: str | None = None
    "Column that is judged too, as if it were the output: what copying it would be worth."
    against: str | list[str] | None = None
    "Another output for the same rows, compared by a paired bootstrap; of `predictions` any number, as name=path too."
    predictions: str | None = None
    "Output of jobs.predict to hold against the labels, entities or classes of `reference_column`."
    labels_of: LabelsOf = "auto"
    "What labels are of; auto: a string is the class of a row, a list has one a word. rows: a list of classes."
    intent_column: str | None = None
    "Column of right intents, for predictions of intents and slots; several of a row are joined by #."
    train_tokens: str | None = None
    "Labelled table of training: its words are known, and known and unknown ones get an accuracy each."
    prefix: str | None = None
    "What jobs.predict put before the names of its columns; null: predicted_ if there are such, otherwise nothing."
    scheme: Scheme | None = None
    "How labels write spans (iob1, iob2, iobes, bilou or io); null: as they look, of words alone if like none."
    words_column: str | None = "words"
    "Column of the words that labels are of, to show mistakes; it may be missing."
    metrics: list[str] | None = None
    "Of bleu, chrf, exact_match, token_accuracy, error_rate, miss_rate; null: the usual ones for `unit`."
    unit: Unit = "words"
    "What edits are counted in: words, chars, or phonemes (blank-separated, and reported by their names)."
    bootstrap_draws: int = Field(default=1000, ge=100)
    "Draws of the rows: of the paired bootstrap, and of the intervals of `predictions`."
    checkpoint: str | None = None
    "Model for the perplexity of `tokens`."
    tokens: str | None = None
    "Token table read as one stream with carried state: the standard figure of word-level benchmarks."
    lanes: int = Field(default=1, ge=1)
    "Lanes of that stream; 1 is the standard, more are faster and lose context where a lane begins."
    ensemble: list[str] = Field(default_factory=list)
    "Further checkpoints that predict the stream together with `checkpoint`: the mean of their probabilities."
    statistics: str | None = None
    "Token table of training data that dynamic evaluation measures its gradients on; null takes the stream's own."
    fit_on: str | None = None
    "Held-out token table on which flatness and weight of the cache, and ngram_weight, are chosen; null: as given."
    ngram: str | None = None
    "Output of jobs.train_ngram or jobs.import_ngram whose probabilities are mixed in."
    ngram_weight: float = Field(default=0.1, ge=0.0, le=1.0)
    "Share of the n-gram model in the mixture."
    token_logprobs: str | None = None
    "Parquet file for the log-probability of each target of the stream, one row a document; null writes none."
    title: str | None = None
    "Heading of the report; null says what is reported."

    def __post_init__(self) -> None:
        if self.predictions is not None:
            self._check_predictions()
            return
        if self.scored is None and self.tokens is None and self.hypotheses is None:
            raise ValueError(
                "give scored=... (the output of jobs.score), checkpoint=... and tokens=..., "
                "or hypotheses=... (the output of jobs.generate) and reference_column=..., "
                "or predictions=... (the output of jobs.predict) and reference_column=..."
            )
        about_labels = (self.prefix, self.scheme, self.intent_column, self.train_tokens)
        if any(one is not None for one in about_labels) or self.labels_of != "auto":
            raise ValueError("prefix, scheme, labels_of, intent_column and train_tokens are about predictions=...")
        self._check_hypotheses()
        if (self.tokens is None) != (self.checkpoint is None):
            raise ValueError("checkpoint and tokens belong together; give both or none")
        if self.strengthened and self.tokens is None:
            raise ValueError(
                "cache, adaptation, ensemble, ngram and token_logprobs are about a stream; give tokens=..."
            )
        if self.strengthened and self.lanes != 1:
            raise ValueError("cache, adaptation, ensemble, ngram and token_logprobs need the stream in order: lanes=1")

    @property
    def strengthened(self) -> bool:
        """Whether the stream is read by more than the trained model alone, or target by target."""
        plain = isinstance(self.cache, NoCacheConfig) and isinstance(self.adaptation, NoAdaptationConfig)
        return not plain or bool(self.ensemble or self.ngram or self.token_logprobs or self.fit_on)

    @property
    def all_against(self) -> list[str]:
        """The outputs to compare with, however many."""
        return [self.against] if isinstance(self.against, str) else self.against or []

    def _check_hypotheses(self) -> None:
        if (self.hypotheses is None) != (self.reference_column is None):
            raise ValueError("hypotheses and reference_column belong together; give both or none")
        if self.hypotheses is None and (self.all_against or self.source_column or self.baseline_column or self.metrics):
            raise ValueError("against, source_column, baseline_column and metrics are about hypotheses=...")
        if len(self.all_against) > 1:
            raise ValueError("hypotheses are compared with one other output: against=...")
        if self.metrics is not None:
            check_metrics(self.metrics)

    def _check_predictions(self) -> None:
        if self.reference_column is None:
            raise ValueError("predictions need reference_column=... (a column of labels, entities or classes)")
        others = ("scored", "run", "samples", "hypotheses", "source_column", "baseline_column", "metrics")
        taken = [name for name in (*others, "checkpoint", "tokens") if getattr(self, name) is not None]
        taken += ["cache, adaptation, ensemble, ngram or token_logprobs"] if self.strengthened else []
        if taken:
            raise ValueError(f"predictions have a report of their own; leave out {', '.join(taken)}")


@config
class CompareJob:
    """python -m jobs.compare: runs of one kind side by side, with tests of whether they differ."""

    runs: list[str] = Field(min_length=2)
    "Output folders of jobs.train, of jobs.score for the same rows, or of jobs.evaluate; all of one kind."
    output: str
    "Folder for report.html, report.md and report.json."
    names: list[str] | None = None
    "What to call the runs; null takes of their paths what tells them apart."
    baseline_run: str | None = None
    "Name of the run that scored ones are tested against; null takes the first."
    id_column: str | None = None
    "Column that must be equal in all outputs of jobs.score, beside the scored text; it names rows on the page."
    draws: int = Field(default=10_000, ge=100)
    "Draws of the bootstrap, and of the permutation test; its p-value is no smaller than one in so many."
    title: str = "Runs side by side"
    "Heading of the page."


@config
class DiagnoseJob:
    """python -m jobs.diagnose: how far back recurrent language models look, and where their gradients vanish."""

    task: TaskConfig
    "The fresh model that is diagnosed where no checkpoint is given, or `cells` are; a language model."
    tokens: str
    "Token table whose passages the models read."
    output: str
    "Folder for report.html, diagnosis.md and diagnosis.json."
    checkpoint: str | list[str] | None = None
    "Run or checkpoint folder, or several, as name=path too; null diagnoses fresh models."
    cells: list[str] | None = Field(default=None, min_length=1)
    "Names of conf/cell: a fresh model of each, with the sizes of `task`, beside the checkpoints if there are any."
    tokenizer_path: str | None = None
    "Folder of the tokenizer the table was made with; null takes that of the first checkpoint."
    passages: int = Field(default=256, ge=2)
    "Passages drawn from the table; each counts once, so more give smoother curves."
    max_lag: int = Field(default=128, ge=2)
    "Longest lag in tokens; a passage has twice as many."
    seed: int = Field(default=1, ge=0)
    "Decides which passages, which replacements, and the weights of fresh models."
    threads: int | None = Field(default=None, ge=1)
    "Threads; null takes all cores. Last digits may depend on it."
    title: str = "What a recurrent model remembers"
    "Heading of the report."

    def __post_init__(self) -> None:
        if not self.checkpoints and self.tokenizer_path is None:
            raise ValueError("give checkpoint=... (the output of jobs.train), or tokenizer_path=... for fresh models")
        if self.cells is not None and getattr(self.task, "layers", None) is not None:
            raise ValueError("cells take the place of task.cell, and task.layers has none; leave out one of the two")

    @property
    def checkpoints(self) -> list[str]:
        """However many there are."""
        return [self.checkpoint] if isinstance(self.checkpoint, str) else self.checkpoint or []


@config
class ExportEmbeddingsJob:
    """python -m jobs.export_embeddings: write the vectors of a model's words into a file of vectors."""

    checkpoint: str
    "Run or checkpoint folder."
    output: str
    "The file; of format=word2vec a name that ends in .bin has the binary layout, any other the text."
    format: VectorFormat = "word2vec"
    "word2vec, parquet (token, word, vector) or safetensors; all but parquet are read by pretrained vectors."
    pieces: bool = False
    "Write every token as the tokenizer spells it, and not only those that are whole words."


@config
class MapEmbeddingsJob:
    """python -m jobs.map_embeddings: a page that shows a model's words as points in two dimensions."""

    checkpoint: str
    "Run or checkpoint folder."
    tokens: str
    "Token table whose words are counted, of training say; the most frequent ones are drawn."
    output: str
    "Folder for map.html and map.json."
    words: int = Field(default=500, ge=3, le=1000)
    "Words drawn at most."
    title: str = "A map of words"
    "Heading of the page."
