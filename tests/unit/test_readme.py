import re
import subprocess
import sys
from pathlib import Path

import rnnlm

ROOT = Path(__file__).parents[2]
README = (ROOT / "README.md").read_text(encoding="utf-8")


def test_the_library_example_runs_and_prefers_order_to_disorder(tmp_path):
    (code,) = re.findall(r"```python\n(.*?)```", README, re.DOTALL)
    assert len(code.strip().splitlines()) <= 15
    (tmp_path / "README.md").write_text(README, encoding="utf-8")
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, timeout=120, check=False
    )
    assert done.returncode == 0, done.stderr
    assert re.search(r"validation: \d+\.\d\d nats a token", done.stdout)
    assert re.search(r"\[-\d+\.\d+ +-\d+\.\d+ *\]", done.stdout)


def test_public_names_are_sorted_and_exist():
    assert rnnlm.__all__ == sorted(rnnlm.__all__)
    for name in rnnlm.__all__:
        assert hasattr(rnnlm, name), name
