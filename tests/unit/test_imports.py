"""The library stands alone: none of its modules loads Ray, Hydra, OmegaConf or the jobs."""

import subprocess
import sys

from tests.corpora import save_tiny

IMPORT_ALL = """
import importlib.util, pkgutil, sys
import rnnlm
for module in pkgutil.walk_packages(rnnlm.__path__, "rnnlm."):
    if module.name.endswith("_triton") and importlib.util.find_spec("triton") is None:
        continue  # an extra, for machines with a GPU
    importlib.import_module(module.name)
    unwanted = {"ray", "hydra", "omegaconf", "jobs"} & sys.modules.keys()
    assert not unwanted, f"{module.name} loads {unwanted}"
"""


def test_no_module_of_the_library_loads_the_jobs_world():
    # A fresh process: this one has loaded what the test runner needs.
    process = subprocess.run([sys.executable, "-c", IMPORT_ALL], capture_output=True, text=True, check=False)
    assert process.returncode == 0, process.stderr


def test_to_load_and_use_a_model_does_not_load_torchs_compiler(tmp_path):
    save_tiny(tmp_path / "model")
    use = f"import sys, rnnlm; rnnlm.load({str(tmp_path / 'model')!r}).score(['a b']); assert 'torch._dynamo' not in sys.modules"
    process = subprocess.run([sys.executable, "-c", use], capture_output=True, text=True, check=False)
    assert process.returncode == 0, process.stderr


def test_an_import_that_fails_leaves_the_garbage_collector_on():
    use = "import gc, sys; sys.modules['pyarrow'] = None\ntry:\n    import rnnlm\nexcept ImportError:\n    assert gc.isenabled()\nelse:\n    sys.exit('not tried')"
    process = subprocess.run([sys.executable, "-c", use], capture_output=True, text=True, check=False)
    assert process.returncode == 0, process.stderr


def test_the_public_names_exist_and_are_sorted():
    import rnnlm

    assert [name for name in rnnlm.__all__ if not hasattr(rnnlm, name)] == []
    assert sorted(set(rnnlm.__all__)) == sorted(rnnlm.__all__)
