"""N-gram models with Kneser-Ney smoothing over token tables: a baseline for networks, and a partner."""

from rnnlm.ngram.config import NGramConfig
from rnnlm.ngram.mixture import fit_weight, interpolate
from rnnlm.ngram.model import NGramModel
from rnnlm.ngram.store import load_ngram, save_ngram

__all__ = ["NGramConfig", "NGramModel", "fit_weight", "interpolate", "load_ngram", "save_ngram"]
