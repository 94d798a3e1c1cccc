"""Peers that bring packages of their own: each has an environment under outputs/peers, made when first asked for.

    python -m benchmarks.peers.environments [NAME ...]

torch is of the version that this project runs with, so that the products are the same on both sides.
"""

import json
import os
import subprocess
import sys
import tempfile
import venv
from pathlib import Path
from typing import Any

import torch

FOLDER = Path("outputs/peers")
TORCH = f"torch=={torch.__version__.partition('+')[0]}"
PACKAGES = {
    "flair": [TORCH, "flair==0.15.1"],
    "joeynmt": [TORCH, "joeynmt==2.3.0", "importlib_metadata", "datasets", "numpy"],
    "transformers": [TORCH, "transformers==5.24.0", "tokenizers==0.23.3", "numpy"],
}
ONE_THREAD = {
    "OMP_NUM_THREADS": "1",
    "MKL_NUM_THREADS": "1",
    "RAYON_NUM_THREADS": "1",
    "TOKENIZERS_PARALLELISM": "false",
    "HF_HUB_OFFLINE": "1",
}


def python_of(name: str) -> Path:
    """The interpreter of an environment."""
    folder = FOLDER / name
    installed = folder / ".installed"
    wanted = "\n".join(PACKAGES[name])
    if not installed.exists() or installed.read_text() != wanted:
        venv.create(folder, with_pip=True)
        pip = [folder / "bin" / "python", "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
        subprocess.run([*pip, *PACKAGES[name]], check=True)
        installed.write_text(wanted)
    return folder / "bin" / "python"


def ask(name: str, script: str, question: dict[str, Any]) -> dict[str, Any]:
    """Run a script of this folder in an environment; it reads one JSON file and prints JSON as its last line."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "question.json")
        path.write_text(json.dumps(question))
        words = [str(python_of(name)), str(Path(__file__).parent / script), str(path)]
        done = subprocess.run(words, check=False, env={**os.environ, **ONE_THREAD}, capture_output=True, text=True)
    assert done.returncode == 0, f"{words} failed:\n{done.stderr}"
    answer: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return answer


if __name__ == "__main__":
    for wanted in sys.argv[1:] or PACKAGES:
        print(python_of(wanted))
