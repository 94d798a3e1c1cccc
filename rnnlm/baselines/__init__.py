"""Classical models that taggers and classifiers of our own are held against: counts and linear models, no network."""

from rnnlm.baselines.bag_of_words import BagOfWordsClassifier, BagOfWordsConfig
from rnnlm.baselines.hmm import HMMConfig, HMMTagger
from rnnlm.baselines.most_frequent import MostFrequentConfig, MostFrequentTagger
from rnnlm.baselines.most_frequent_class import MostFrequentClass
from rnnlm.baselines.stored import StoredBaseline, is_baseline, loaded_baseline
from rnnlm.baselines.tuning import Tuned, tune

__all__ = [
    "BagOfWordsClassifier",
    "BagOfWordsConfig",
    "HMMConfig",
    "HMMTagger",
    "MostFrequentClass",
    "MostFrequentConfig",
    "MostFrequentTagger",
    "StoredBaseline",
    "Tuned",
    "is_baseline",
    "loaded_baseline",
    "tune",
]
