"""The precision of matrix products, and those of float32 on a CPU through oneDNN.

torch gives float32 products to MKL, which on an AMD EPYC (Zen 5) reaches 65 to 85 GFLOP/s a thread where oneDNN reaches
150 to 190, with the same rounding error. The operation is the one that torch's compiler puts in for a linear layer; it
takes a row of biases along at no cost, and has no gradient of its own.
"""

import torch
from torch import Tensor

_HAS_ONEDNN = torch.backends.mkldnn.is_available() and hasattr(torch.ops.mkldnn, "_linear_pointwise")


def times_transposed(left: Tensor, right: Tensor, bias: Tensor | None = None) -> Tensor:
    """`left @ right^T + bias`: N x K and M x K to N x M. For use where no gradient is recorded."""
    if _HAS_ONEDNN and left.dtype == torch.float32 and left.device.type == "cpu" and len(left):
        product: Tensor = torch.ops.mkldnn._linear_pointwise(left, right, bias, "none", [], "")
        return product
    return left @ right.t() if bias is None else torch.addmm(bias, left, right.t())


def product_dtype(tensor: Tensor) -> torch.dtype:
    """The precision that large products are done in: what autocast asks for, else the tensor's own."""
    device = tensor.device.type
    return torch.get_autocast_dtype(device) if torch.is_autocast_enabled(device) else tensor.dtype
