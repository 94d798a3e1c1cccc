"""Classical models that taggers and classifiers of our own are held against: counts and linear models, no network."""

from rnnlm.baselines.bag_of_words import BagOfWordsClassifier, BagOfWordsConfig
from rnnlm.baselines.hmm import HMMConfig, HMMTagger
from rnnlm.baselines.most_frequent import MostFrequentTagger

__all__ = ["BagOfWordsClassifier", "BagOfWordsConfig", "HMMConfig", "HMMTagger", "MostFrequentTagger"]
