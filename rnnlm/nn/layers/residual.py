"""A shortcut around a layer (He et al. 2016; in recurrent stacks: Prakash et al. 2016, Wu et al. 2016, section 3.1).

y = x + f(x)        or with pre_norm        y = x + f(norm(x))        (Xiong et al. 2020)
"""

from pydantic import Field

from rnnlm.config import config
from rnnlm.nn.dropout import Dropout
from rnnlm.nn.layer import Layer
from rnnlm.nn.layers.bypass import Bypass, BypassConfig, norm_or_nothing
from rnnlm.types import Features


@config
class ResidualConfig(BypassConfig):
    """A layer's inputs are added to its outputs."""

    pre_norm: bool = True
    "The inner layer reads normalised inputs; what goes round it stays as it is."
    dropout: float = Field(default=0.0, ge=0.0, lt=1.0)
    "Probability that a feature of the inner outputs is zeroed in training."

    def build(self, input_size: int) -> "Residual":
        return Residual(self.inner.build(input_size), pre_norm=self.pre_norm, dropout=self.dropout)


class Residual(Bypass):
    """f is `inner`."""

    def __init__(self, inner: Layer, *, pre_norm: bool, dropout: float) -> None:
        super().__init__(inner)
        self.norm = norm_or_nothing(self.input_size, wanted=pre_norm)
        self.dropout = Dropout(dropout, variational=False)

    def before(self, inputs: Features) -> Features:
        normed: Features = self.norm(inputs)
        return normed

    def join(self, inputs: Features, outputs: Features) -> Features:
        summed: Features = inputs + self.dropout(outputs)
        return summed
