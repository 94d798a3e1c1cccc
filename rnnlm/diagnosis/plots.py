"""The plots of a diagnosis: what fades with the lag, a line a model and layer, and how gates are used."""

from collections.abc import Mapping, Sequence
from math import log2
from typing import Any

from rnnlm.diagnosis.diagnose import Diagnosis, GradientDecay
from rnnlm.diagnosis.gates import HIGH, LOW
from rnnlm.diagnosis.horizon import FADED
from rnnlm.evaluation.plots import COLOURS, MUTED, NARROW, PALE, Drawing, draw, legend_label

FAINTEST = 1e-8  # lowest value drawn; below, rounding shows
MAX_BANDS = 2  # lines with quantiles around them; more would be mud
MAX_BARS = 24
DASHES = ("-", "--", ":", "-.")  # a layer each, the upper ones first

Models = Mapping[str, Diagnosis]


def plot_gradients(models: Models) -> Drawing:
    """Mean gradient norm by lag, each layer's divided by its mean at lag 0; of few lines also quantiles."""
    lines = [
        (_label(name, decay, one), colour, dash, decay)
        for (name, one), colour in zip(models.items(), _colours(models), strict=True)
        for decay, dash in zip(reversed(one.gradients), DASHES, strict=False)
    ]

    def paint(axes: Any) -> None:
        for label, colour, dash, decay in lines:
            axes.plot(_relative(decay, decay.mean), color=colour, ls=dash, lw=1.6, label=label)
            if len(lines) <= MAX_BANDS:
                low, *_, high = decay.quantiles.values()
                band = _relative(decay, low), _relative(decay, high)
                axes.fill_between(range(len(low)), *band, color=colour, alpha=0.12, lw=0)
        axes.axhline(FADED, color=MUTED, lw=0.8, ls=":")
        lowest = min(value for *_, decay in lines for value in _relative(decay, decay.mean))
        axes.set_yscale("log")
        axes.set_ylim(bottom=max(FAINTEST, lowest / 2))
        axes.set_xlabel("lag k, tokens")
        axes.set_ylabel("gradient, relative to lag 0")
        _legend(axes, len(lines))

    return draw("Gradient of the loss with respect to earlier states, by lag", 3.6, paint)


def plot_context(models: Models) -> Drawing:
    """How much higher the perplexity is than with all context, in percent, by the length that is shown."""

    def paint(axes: Any) -> None:
        for (name, one), colour in zip(models.items(), _colours(models), strict=True):
            curve = one.context
            full = curve.perplexity[-1]  # good and bad models share an axis
            excess = [100.0 * (perplexity / full - 1.0) for perplexity in curve.perplexity]
            places = [log2(length) for length in curve.lengths]
            axes.plot(places, excess, color=colour, lw=1.6, marker="o", ms=3, label=legend_label(name))
        axes.set_yscale("symlog", linthresh=1.0)  # a line below 1 %, a logarithm above
        axes.axhline(1.0, color=MUTED, lw=0.8, ls=":")
        axes.set_xticks(range(int(places[-1]) + 1))
        axes.xaxis.set_major_formatter(lambda x, _: f"{2.0**x:.0f}")
        axes.yaxis.set_major_formatter(lambda y, _: f"{y:g} %")
        axes.set_xlabel("tokens of context")
        axes.set_ylabel("perplexity above full")
        _legend(axes, len(models))

    return draw("Perplexity by length of context", 3.2, paint)


def plot_replacement(models: Models) -> Drawing:
    """Divergence of the prediction by the lag of the token that was replaced."""

    def paint(axes: Any) -> None:
        for (name, one), colour in zip(models.items(), _colours(models), strict=True):
            curve = one.replacement
            places = [log2(lag + 1) for lag in curve.lags]
            axes.plot(places, curve.kl, color=colour, lw=1.6, marker="o", ms=3, label=legend_label(name))
        axes.set_yscale("log")
        axes.set_ylim(bottom=max(FAINTEST, min(value for one in models.values() for value in one.replacement.kl)))
        axes.set_xticks(range(int(places[-1]) + 1))
        axes.xaxis.set_major_formatter(lambda x, _: f"{2.0**x - 1.0:.0f}")
        axes.set_xlabel("lag k of the replaced token")
        axes.set_ylabel("KL divergence, nats")
        _legend(axes, len(models))

    return draw("Effect of replacing one token, by lag", 3.2, paint)


def plot_gates(models: Models) -> Drawing | None:
    """Shares of activations near 0 and near 1, a bar a gate; None if there are none, or too many to be read."""
    bars = [(f"{name} {use.place} {use.gate}", use) for name, one in models.items() for use in one.gates]
    if not 0 < len(bars) <= MAX_BARS:
        return None

    def paint(axes: Any) -> None:
        names = [legend_label(name) for name, _ in bars]
        below = [100.0 * use.below for _, use in bars]
        above = [100.0 * use.above for _, use in bars]
        between = [100.0 - low - high for low, high in zip(below, above, strict=True)]
        starts = [low + middle for low, middle in zip(below, between, strict=True)]
        axes.barh(names, below, color=COLOURS[0], label=f"below {LOW}", height=0.7)
        axes.barh(names, between, left=below, color=PALE, label="between", height=0.7)
        axes.barh(names, above, left=starts, color=COLOURS[1], label=f"above {HIGH}", height=0.7)
        axes.invert_yaxis()
        axes.set_xlim(0, 100)
        axes.set_xlabel("% of activations")
        axes.grid(visible=False, axis="y")
        axes.tick_params(axis="y", length=0, labelsize=8)
        axes.figure.legend(loc="outside upper left", ncols=3, columnspacing=1.0, handlelength=1.2)

    return draw("Saturation of gates", 1.1 + 0.24 * len(bars), paint)


def _relative(decay: GradientDecay, values: Sequence[float]) -> list[float]:
    """Divided by the mean at lag 0, and above what is drawn, where a logarithm exists."""
    return [max(value / (decay.mean[0] or 1.0), FAINTEST / 100) for value in values]


def _colours(models: Models) -> list[str]:
    return [COLOURS[place % len(COLOURS)] for place in range(len(models))]


def _label(name: str, decay: GradientDecay, one: Diagnosis) -> str:
    return legend_label(name if len(one.gradients) == 1 else f"{name}, layer {decay.layer}")


def _legend(axes: Any, lines: int) -> None:
    """Above the plot, where no line is."""
    columns = 2 if axes.figure.get_figwidth() == NARROW else 4
    if lines > 1:
        axes.figure.legend(loc="outside upper left", ncols=columns, columnspacing=1.0, handlelength=1.6, fontsize=9)
