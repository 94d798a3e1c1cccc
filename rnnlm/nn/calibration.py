"""Temperature scaling (Guo, Pleiss, Sun & Weinberger 2017, section 4.2): one number that divides all logits.

    P_T(y) = softmax(s / T)[y]        T minimises the nll of held-out data

It changes how sure a classifier is, never which class it takes for the best.
"""

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor

SMALLEST, LARGEST = 1e-2, 1e2  # where all rows are right or all wrong, the nll has no minimum


@torch.inference_mode(mode=False)
@torch.enable_grad()
def fit_temperature(logits: Float[Tensor, "N L"], targets: Int[Tensor, " N"] | Float[Tensor, "N L"]) -> float:
    """The temperature for held-out logits, by L-BFGS. Targets are the classes, or for logits of several labels a row
    (sigmoid) 1 and 0 for each."""
    # Copies, since tensors that were made in inference mode take part in no gradient.
    logits, targets = logits.detach().to(torch.float64, copy=True), targets.clone()
    log_temperature = torch.zeros((), dtype=torch.float64, device=logits.device, requires_grad=True)

    def loss() -> Tensor:
        scaled = logits / log_temperature.exp().clamp(SMALLEST, LARGEST)
        if targets.dim() == 2:
            return F.binary_cross_entropy_with_logits(scaled, targets.double())
        return F.cross_entropy(scaled, targets)

    optimizer = torch.optim.LBFGS([log_temperature], max_iter=100, line_search_fn="strong_wolfe")

    def closure() -> float:
        optimizer.zero_grad()
        found = loss()
        found.backward()
        return found.item()

    optimizer.step(closure)
    return float(log_temperature.detach().exp().clamp(SMALLEST, LARGEST))
