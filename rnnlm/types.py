"""Dimension letters and named tensor types, used in every signature.

B rows (or lanes)   T time steps   D input size   H hidden size   V vocabulary   N packed positions   G gates   L layers
S source positions  M memory size  A key size     Q query size    C context size

The annotations cost nothing at run time; the tests check every call against them
(`--jaxtyping-packages=rnnlm,typecheck.check`). They stay out of compiled code, where the check breaks graphs.
"""

from jaxtyping import Bool, Float, Int
from torch import Tensor

TokenIds = Int[Tensor, "B T"]
Lengths = Int[Tensor, " B"]
Positions = Int[Tensor, "B T"]
Mask = Bool[Tensor, "B T"]
Scales = Float[Tensor, "B T"]
Dependence = Bool[Tensor, "T T"]

LayerInputs = Float[Tensor, "B T D"]
LayerOutputs = Float[Tensor, "B T H"]
StepInputs = Float[Tensor, "B D"]
StepOutputs = Float[Tensor, "B H"]
Past = Float[Tensor, "B S"]  # some last steps side by side
Joined = Float[Tensor, "B K D"]  # the past and T new steps behind it
Features = Float[Tensor, "*positions D"]  # B T D, B D or N D: what treats each position alone

PackedInputs = Float[Tensor, "N D"]
PaddedInputs = Float[Tensor, "B T D"]
Projected = Float[Tensor, "N G"]  # G: what a cell needs of an input, all gates side by side
ProjectedTable = Float[Tensor, "V G"]
ProjectedStep = Float[Tensor, "B G"]
Parts = tuple[Tensor, ...]  # the same, not yet laid side by side: for one step B x size, for sequences B x T x size
ProjectedSequence = Float[Tensor, "B T G"]
PackedTokens = Int[Tensor, " N"]
PackedScales = Float[Tensor, " N"]
PackedHidden = Float[Tensor, "N H"]
PackedTargets = Int[Tensor, " N"]
PackedLogprobs = Float[Tensor, " N"]

SourceTokens = Int[Tensor, "B S"]
MemoryStates = Float[Tensor, "B S M"]
MemoryMask = Float[Tensor, "B S"]  # 1 at positions of the source, 0 behind its end
Keys = Float[Tensor, "B S A"]
Queries = Float[Tensor, "B T Q"]
Contexts = Float[Tensor, "B T C"]
AttentionScores = Float[Tensor, "B T S"]
Readouts = Float[Tensor, "B T R"]

StepTokens = Int[Tensor, " B"]
StepLogits = Float[Tensor, "B V"]

# A recurrent state is a tuple of tensors with the batch first, so that resetting a lane, reordering a beam and
# writing a checkpoint are one generic index operation for every kind of network.
State = tuple[Tensor, ...]

# What a step looks at and does not change, such as the memory of a source: tensors with the source first.
Context = tuple[Tensor, ...]

__all__ = [
    "SourceTokens",
    "Readouts",
    "Queries",
    "MemoryStates",
    "MemoryMask",
    "Keys",
    "Context",
    "Contexts",
    "AttentionScores",
    "Dependence",
    "Features",
    "Joined",
    "LayerInputs",
    "LayerOutputs",
    "Lengths",
    "Mask",
    "PackedHidden",
    "PackedInputs",
    "PackedLogprobs",
    "PackedScales",
    "PackedTargets",
    "Parts",
    "PackedTokens",
    "PaddedInputs",
    "Past",
    "Positions",
    "Projected",
    "ProjectedSequence",
    "ProjectedStep",
    "ProjectedTable",
    "Scales",
    "State",
    "StepInputs",
    "StepLogits",
    "StepOutputs",
    "StepTokens",
    "TokenIds",
]
