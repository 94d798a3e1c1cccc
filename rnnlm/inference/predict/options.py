"""What may be asked of a model that labels."""

from collections.abc import Sequence

from pydantic import Field

from rnnlm.config import config
from rnnlm.errors import ConfigError
from rnnlm.inference.precision import Products
from rnnlm.inference.windows import check_windows


@config
class PredictSettings:
    """What a user chooses, for all kinds of models; a processor refuses what its kind has no use for."""

    checkpoint: str
    "Run folder (its best checkpoint is taken), checkpoint folder, or output of jobs.train_baseline."
    words_column: str = "words"
    "Column of words, or of text that is split into words."
    max_words: int | None = Field(default=None, ge=1)
    "A longer row is an error row; null for no limit."
    window: int | None = Field(default=None, ge=1)
    "Words read together; longer rows are read in pieces. null reads each row as a whole."
    overlap: int = Field(default=0, ge=0)
    "Words that two pieces share; each labels the half that is its own."
    entities: bool | None = None
    "Write spans in place of labels; null: if the labels are O and others with the prefixes of a scheme."
    probabilities: bool = False
    "Of a classifier: write the probability of every class too."
    threshold: float = Field(default=0.5, ge=0.0, le=1.0)
    "Of a classifier of several labels, or of spans that may nest: write those that are as probable."
    flat: bool = False
    "Of spans that may nest: write none that overlaps a more probable one."
    temperature: float = Field(default=1.0, gt=0.0)
    "Of a classifier: divides its logits (`rnnlm.inference.classify.fitted_temperature`)."
    calibration: str | None = None
    "Output of jobs.calibrate for this checkpoint, in place of `temperature` and `threshold`."
    k_best: int | None = Field(default=None, ge=1)
    "Of a tagger: write the so many most probable sequences of labels of each row too, in a column `alternatives`."
    prefix: str = ""
    "Put before the names of new columns, `error` apart."
    threads: int = Field(default=1, ge=1)
    "Threads of a worker; the rounding of a product can depend on it, so it belongs to the run's identity."

    def __post_init__(self) -> None:
        check_windows(self.window, self.overlap)


@config
class PredictOptions(PredictSettings):
    """What is chosen, and what follows from the corpus and the machine."""

    splits: bool = False
    "The words are text; see `reads`."
    text_column: str | None = None
    "Where words are given: column of the text in which entities have their places, if it fits."
    products: Products = Field(default_factory=Products)
    "How the model computes."

    def refuse_changed(self, names: Sequence[str], problem: str) -> None:
        """Raise ConfigError if an option is set that the model has no use for."""
        defaults = PredictOptions(checkpoint=self.checkpoint)
        for name in names:
            if getattr(self, name) != getattr(defaults, name):
                raise ConfigError(f"{name}: it {problem}")
