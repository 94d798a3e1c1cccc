"""Recurrent language models and translators over text. This module lists the public names and nothing else."""

import gc

collected = gc.isenabled()
gc.disable()  # while modules are read nothing is garbage, and looking for some takes a sixth of the time
try:
    from rnnlm.checkpoint import Checkpoint, load_checkpoint
    from rnnlm.config import from_dict, to_dict
    from rnnlm.data.tokenizers import Tokenizer, load_tokenizer
    from rnnlm.data.tokenizers.bytes import BytesConfig
    from rnnlm.data.tokenizers.chars import CharsConfig
    from rnnlm.data.tokenizers.sentencepiece import SentencePieceConfig
    from rnnlm.data.tokenizers.words import WordsConfig
    from rnnlm.data.tokens import TokenTable, read_token_table
    from rnnlm.decoding.base import Hypothesis
    from rnnlm.decoding.beam import BeamConfig
    from rnnlm.decoding.greedy import GreedyConfig
    from rnnlm.decoding.sampling import SamplingConfig
    from rnnlm.errors import (
        CheckpointError,
        ConfigError,
        DataError,
        EnvironmentFailure,
        FailuresError,
        NonFiniteError,
        RefusedError,
        RnnlmError,
        StalledError,
        TerminatedError,
        TokenizerError,
    )
    from rnnlm.inference.generate import Generator
    from rnnlm.inference.score import Scorer, Scores
    from rnnlm.inference.stream.adaptation import DynamicEvaluationConfig
    from rnnlm.inference.stream.cache import ContinuousCacheConfig
    from rnnlm.inference.stream.scorer import StreamScorer
    from rnnlm.inference.translate import Translator
    from rnnlm.loaded import LoadedModel, load
    from rnnlm.ngram import NGramConfig, load_ngram
    from rnnlm.nn.cells.elman import ElmanConfig
    from rnnlm.nn.cells.gru import GRUConfig
    from rnnlm.nn.cells.lstm import LSTMConfig
    from rnnlm.nn.softmax.adaptive import AdaptiveSoftmaxConfig
    from rnnlm.nn.softmax.full import FullSoftmaxConfig
    from rnnlm.nn.softmax.mixture import MixtureSoftmaxConfig
    from rnnlm.nn.softmax.sampled import SampledSoftmaxConfig
    from rnnlm.storage import open_location
    from rnnlm.tasks.batching import DocumentsConfig, LanesConfig, PairsConfig
    from rnnlm.tasks.language_model import LanguageModelConfig
    from rnnlm.tasks.translation import TranslationConfig
    from rnnlm.training.loop import train
    from rnnlm.training.optimizers.adamw import AdamWConfig
    from rnnlm.training.optimizers.sgd import SGDConfig
    from rnnlm.training.schedules import ConstantConfig, CosineConfig
    from rnnlm.training.settings import LoopConfig, TrainingConfig, TrainingData, TrainingSummary
finally:  # also if a package is missing
    if collected:
        gc.enable()
    del collected, gc

__version__ = "0.1.0"

__all__ = [
    "AdamWConfig",
    "AdaptiveSoftmaxConfig",
    "BeamConfig",
    "BytesConfig",
    "CharsConfig",
    "Checkpoint",
    "CheckpointError",
    "ConfigError",
    "ConstantConfig",
    "ContinuousCacheConfig",
    "CosineConfig",
    "DataError",
    "DocumentsConfig",
    "DynamicEvaluationConfig",
    "ElmanConfig",
    "EnvironmentFailure",
    "FailuresError",
    "FullSoftmaxConfig",
    "GRUConfig",
    "Generator",
    "GreedyConfig",
    "Hypothesis",
    "LSTMConfig",
    "LanesConfig",
    "LanguageModelConfig",
    "LoadedModel",
    "LoopConfig",
    "MixtureSoftmaxConfig",
    "NGramConfig",
    "NonFiniteError",
    "PairsConfig",
    "RefusedError",
    "RnnlmError",
    "SGDConfig",
    "SampledSoftmaxConfig",
    "SamplingConfig",
    "Scorer",
    "Scores",
    "SentencePieceConfig",
    "StalledError",
    "StreamScorer",
    "TerminatedError",
    "TokenTable",
    "Tokenizer",
    "TokenizerError",
    "TrainingConfig",
    "TrainingData",
    "TrainingSummary",
    "TranslationConfig",
    "Translator",
    "WordsConfig",
    "from_dict",
    "load",
    "load_checkpoint",
    "load_ngram",
    "load_tokenizer",
    "open_location",
    "read_token_table",
    "to_dict",
    "train",
]
