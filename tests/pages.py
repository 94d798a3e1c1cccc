"""The Markdown pages of the repository, and what is in them: blocks, links, anchors, and the commands a shell would run."""

import os
import re
import subprocess
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
PAGES = sorted(
    path for pattern in ("*.md", "docs/**/*.md", "deploy/**/*.md", "benchmarks/**/*.md") for path in ROOT.glob(pattern)
)
TUTORIALS = sorted((ROOT / "docs" / "tutorials").glob("*.md"))

FENCE = re.compile(r"^```(\w*)[^\n]*\n(.*?)^```$", re.MULTILINE | re.DOTALL)
INDENTED = re.compile(r"(?<=\n\n)(?:(?: {4}[^\n]*)?\n)+")
INLINE = re.compile(r"`([^`]+)`")
# A shell that finds no program; what a page is about is written down instead of run.
RECORDER = r"""
command_not_found_handle() { :; }
record() { printf '%s\0' "$@" $'\x1e'; }
python() {
  if [ "$1" = - ]; then local text; IFS= read -r -d '' text; record python - "$text"; else record python "$@"; fi
}
make() { record make "$@"; }
ray() { while [ $# -gt 0 ] && [ "$1" != -- ]; do shift; done; shift; "$@"; }
kill() { wait; }
"""


def name_of(path):
    """A page as links name it."""
    return path.relative_to(ROOT).as_posix()


def blocks(text, language):
    """The fenced blocks of a language."""
    return [body for found, body in FENCE.findall(text) if found == language]


def prose(text):
    """A page without its fenced blocks."""
    return FENCE.sub("", text)


def inline_code(text):
    """What stands between backticks, each on one line."""
    return [" ".join(code.split()) for code in INLINE.findall(prose(text))]


def script(text):
    """All that a reader may paste into a shell, from the top of a page to its end."""
    indented = [block for block in INDENTED.findall(prose(text)) if "python -m" in block]
    inline = [code for code in inline_code(text) if re.match(r"python -m \w+(\.\w+)?( |$)|make [a-z]", code)]
    return "\n".join([*blocks(text, "bash"), *indented, *inline])


def commands(typed, folder):
    """Every `python` and `make` of a script as a list of words: what the shell makes of loops, variables and quotes."""
    done = subprocess.run(
        ["/bin/bash", "-c", RECORDER + typed],
        cwd=folder,
        env={"PATH": "/nowhere", "HOME": os.fspath(folder)},
        capture_output=True,
        text=True,
        timeout=20,
        check=False,
    )
    assert "syntax error" not in done.stderr, f"{typed}\n{done.stderr}"
    return [words.removesuffix("\0").split("\0") for words in done.stdout.split("\x1e\0")[:-1]]


def links(text):
    """Where Markdown links and images lead."""
    return re.findall(r"\]\(([^)\s]+)\)", prose(text))


def anchors(text):
    """What `#...` may name: the headings, as the repository's host and the site spell them."""
    headings = re.findall(r"^#+ (.*)$", prose(text), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}
