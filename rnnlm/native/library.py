"""The C sources, compiled for this very processor when first asked for, and kept in the user's cache.

A C compiler takes a second for it, torch.compile half a minute for the same, and its code is slower. Where there is no
compiler, or RNNLM_NATIVE=0 is set, torch's operations do the work: equal up to the last digits, so a run's identity
says which of the two it is (`bulk` jobs check that all workers have the same).
"""

import ctypes
import functools
import hashlib
import os
import platform
import shutil
import subprocess
import tempfile
from pathlib import Path
from typing import Literal

SOURCES = tuple(Path(__file__).with_name(name) for name in ("kernels.c", "products.c"))
FLAGS = ("-O3", "-march=native", "-fopenmp-simd", "-fno-math-errno", "-fno-trapping-math", "-shared", "-fPIC")
SWITCH = "RNNLM_NATIVE"
COMPILE_SECONDS = 120.0
_POINTER, _INT, _FLOAT = ctypes.c_void_p, ctypes.c_int64, ctypes.c_float
SIGNATURES = {
    "quantise": [_POINTER, _INT, _INT, _INT, _FLOAT, _INT, _POINTER, _POINTER],
    "rescale": [_POINTER, _POINTER, _POINTER, _INT, _INT, _INT],
    "lstm_gates": [_POINTER, _POINTER, _INT, _INT, _INT, _POINTER, _POINTER],
    "log_sum_exp": [_POINTER, _POINTER, _POINTER, _INT, _INT, _POINTER, _INT, _POINTER, _POINTER, _POINTER],
}
PRODUCTS = {  # of products.c, where the processor has what they need
    "product": [_POINTER, _INT, _INT, _POINTER, _INT, _POINTER],
    "lstm_packed": [_POINTER, _POINTER, _INT, _INT, *[_POINTER] * 7],
    "log_sum_exp_product": [_POINTER, _INT, _INT, *[_POINTER] * 4],
}


@functools.cache
def library() -> ctypes.CDLL | None:
    """The compiled kernels; None where they cannot be had."""
    compiler = shutil.which(os.environ.get("CC", "cc"))
    if os.environ.get(SWITCH) == "0" or compiler is None:
        return None
    try:
        loaded = ctypes.CDLL(str(_compiled(compiler)))
    except (OSError, subprocess.SubprocessError):
        return None
    loaded.products.argtypes, loaded.products.restype = [], _INT
    for name, types in (SIGNATURES | PRODUCTS if loaded.products() else SIGNATURES).items():
        function = getattr(loaded, name)
        function.argtypes, function.restype = types, None
    return loaded


def has_products(precision: str) -> bool:
    """Whether there are products of our own in a precision."""
    found, level = library(), {"float32": 1, "int8": 2}.get(precision)
    return found is not None and level is not None and found.products() >= level


def kind(precision: str) -> Literal["avx512", "native", "torch"]:
    """What computes here, with products in a precision: our own products and kernels, our kernels alone, or torch."""
    if library() is None:
        return "torch"
    return "avx512" if has_products(precision) else "native"


def _compiled(compiler: str) -> Path:
    """The shared library, compiled unless it is in the cache. Raises OSError or SubprocessError."""
    version = _run([compiler, "--version"])
    parts = (*(source.read_bytes() for source in SOURCES), version, " ".join(FLAGS).encode(), _processor())
    key = hashlib.sha256(b"\0".join(parts)).hexdigest()[:20]
    target = _cache() / f"kernels-{key}.so"
    if not target.exists():
        with tempfile.TemporaryDirectory(dir=target.parent) as folder:
            made = Path(folder) / target.name
            _run([compiler, *FLAGS, "-o", str(made), *map(str, SOURCES), "-lm"])
            made.replace(target)  # whole or not at all, whoever else is at it
    return target


def _run(command: list[str]) -> bytes:
    # The compiler is the one that the user's own PATH or CC names.
    return subprocess.run(command, capture_output=True, check=True, timeout=COMPILE_SECONDS).stdout  # noqa: S603


def _cache() -> Path:
    """A folder of the user's own; a fresh one for this process if home cannot be written."""
    base = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    folder = Path(base) / "rnnlm"
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    except OSError:
        return Path(tempfile.mkdtemp(prefix="rnnlm-"))
    writable = os.access(folder, os.W_OK) and folder.stat().st_uid == os.getuid()
    return folder if writable else Path(tempfile.mkdtemp(prefix="rnnlm-"))


def _processor() -> bytes:
    """What `-march=native` looks at: code for one processor may not run on another that shares the home."""
    information = Path("/proc/cpuinfo")
    if not information.exists():
        return platform.processor().encode() + platform.machine().encode()
    lines = information.read_bytes().splitlines()
    return b"".join(sorted({line for line in lines if line.startswith((b"model name", b"flags", b"Features"))}))
