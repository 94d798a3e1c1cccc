"""The tutorials as a reader would: every command of a page, one after another in one shell and an empty folder. What the
page shows has to come out, numbers apart.
"""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.pages import TUTORIALS, blocks

NUMBER = re.compile(r"\d[\d,.]*(?:e[+-]?\d+)?")


def folded(line):
    """A line without what differs from machine to machine."""
    return " ".join(NUMBER.sub("#", line).split())


def pattern(line):
    """What a line of a page stands for: `...` is anything."""
    return re.compile(".*".join(re.escape(folded(part)) for part in line.split("...")))


@pytest.mark.docs
@pytest.mark.timeout(1800)
@pytest.mark.parametrize("path", TUTORIALS, ids=lambda path: path.stem)
def test_a_tutorial_does_what_it_says(path, tmp_path):
    text = path.read_text(encoding="utf-8")
    script = "set -euo pipefail\n" + "".join(blocks(text, "bash"))
    searched = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
    done = subprocess.run(
        ["/bin/bash", "-c", script],
        cwd=tmp_path,
        env={**os.environ, "PATH": searched},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout
    seen = [folded(line) for line in done.stdout.splitlines()]
    promised = [line for block in blocks(text, "text") for line in block.splitlines()]
    assert promised
    assert [line for line in promised if not any(map(pattern(line).fullmatch, seen))] == [], done.stdout
