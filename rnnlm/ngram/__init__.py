"""N-gram models over token tables, our own with Kneser-Ney smoothing or others' from ARPA files: a baseline for
networks, and a partner."""

from rnnlm.ngram.backoff import BackoffModel
from rnnlm.ngram.config import NGramConfig
from rnnlm.ngram.mixture import fit_weight, interpolate
from rnnlm.ngram.model import NGramModel
from rnnlm.ngram.store import load_ngram, save_ngram

__all__ = ["BackoffModel", "NGramConfig", "NGramModel", "fit_weight", "interpolate", "load_ngram", "save_ngram"]
