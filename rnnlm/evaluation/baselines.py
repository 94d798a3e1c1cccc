"""What simple means make of the same text, to hold a model's bits per byte against.

All three flatter the baseline: the order-0 model is fitted on the very text it is measured on, and the compressors see
all rows as one text, with context over the borders, while the language model starts afresh at each row.
"""

import lzma
import math
import zlib
from dataclasses import dataclass

import numpy as np

from rnnlm.evaluation.scored import read_batches, text_need


@dataclass(frozen=True)
class Baselines:
    """Bits per byte of text."""

    order0: float  # entropy of the byte histogram
    gzip: float  # DEFLATE at level 9, window 32 kB
    xz: float  # LZMA2 at level 6, window 8 MB


def measure_baselines(files: list[str], text_column: str) -> Baselines | None:
    """Stream the texts once through all three; None if there is no text."""
    counts = np.zeros(256, dtype=np.int64)
    deflate, xz = zlib.compressobj(9), lzma.LZMACompressor()
    gzip_bytes = xz_bytes = 0
    for batch in read_batches(files, {text_column: text_need("name the column of the text")}):
        content = "".join(text for text in batch.column(text_column).to_pylist() if text).encode()
        counts += np.bincount(np.frombuffer(content, dtype=np.uint8), minlength=256)
        gzip_bytes += len(deflate.compress(content))
        xz_bytes += len(xz.compress(content))
    total = int(counts.sum())
    if not total:
        return None
    gzip_bytes += len(deflate.flush())
    xz_bytes += len(xz.flush())
    order0 = -sum(n / total * math.log2(n / total) for n in counts.tolist() if n)
    return Baselines(order0=order0, gzip=8.0 * gzip_bytes / total, xz=8.0 * xz_bytes / total)
