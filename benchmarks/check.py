"""Has something become slower? Short versions of the measurements, their ratios beside those kept in expected.json.

    python -m benchmarks.check [--update] [NAME ...]

Ratios and shares of limits, which stand still from machine to machine better than seconds do; each is allowed to be
worse than what is kept by its tolerance. One that is worse is measured once more. Exit code 1 if it still is. With
`--update` what is found is kept. A figure is the number in a column of the table row that a benchmark prints, or with
`over` that divided by the same column of another row. What needs a corpus that has not been prepared is left out.
"""

import argparse
import json
import os
import re
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

EXPECTED = Path(__file__).parent / "expected.json"
NUMBER = re.compile(r"-?[\d,]*\.?\d+")
ONE_THREAD = {"OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1"}

Rows = dict[str, list[float]]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="*", help="measurements; default: all")
    parser.add_argument("--update", action="store_true", help="keep what is found")
    arguments = parser.parse_args()
    expected: dict[str, dict[str, Any]] = json.loads(EXPECTED.read_text())
    worse: list[str] = []
    for name in arguments.names or expected:
        wanted = expected[name]
        if not Path(wanted.get("needs", ".")).exists():
            print(f"| {name} | left out: {wanted['needs']} is not there | | |", flush=True)
            continue
        rows = measure(wanted["command"])
        if not arguments.update and any(is_worse(figure, rows) for figure in wanted["figures"]):
            rows = measure(wanted["command"])
        for figure in wanted["figures"]:
            found, label = value(figure, rows), f"{name}: {figure['row']}"
            bad = is_worse(figure, rows)
            print(f"| {label} | {found:.3g} | {figure['expected']:.3g} | {'WORSE' if bad else 'ok'} |", flush=True)
            if arguments.update:
                figure["expected"] = float(f"{found:.3g}")
            elif bad:
                worse.append(label)
    if arguments.update:
        EXPECTED.write_text(json.dumps(expected, indent=2) + "\n")
    if worse:
        sys.exit(f"worse than {EXPECTED.name} allows: {'; '.join(worse)}")


def measure(command: list[str]) -> Rows:
    """The numbers of each row of the tables that a benchmark prints, by the text before them."""
    began = time.perf_counter()
    words = [sys.executable, "-m", f"benchmarks.{command[0]}", *command[1:]]
    done = subprocess.run(words, check=False, env={**os.environ, **ONE_THREAD}, capture_output=True, text=True)
    if done.returncode:
        sys.exit(f"{' '.join(words)} failed:\n{done.stdout}\n{done.stderr}")
    print(f"{' '.join(command)}: {time.perf_counter() - began:.0f} s", file=sys.stderr, flush=True)
    rows: Rows = {}
    for line in done.stdout.splitlines():
        cells = [cell.strip() for cell in line.strip().strip("|").split("|")]
        numbers = [NUMBER.match(cell) for cell in cells]
        first = next((place for place, number in enumerate(numbers) if number), 0)
        if line.startswith("|") and first:
            label = " ".join(cells[:first])
            rows[label] = [float(number.group().replace(",", "")) for number in numbers[first:] if number]
    return rows


def value(figure: dict[str, Any], rows: Rows) -> float:
    column = figure.get("column", 0)
    found = rows[figure["row"]][column]
    return found / rows[figure["over"]][column] if "over" in figure else found


def is_worse(figure: dict[str, Any], rows: Rows) -> bool:
    found, tolerance = value(figure, rows), figure.get("tolerance", 0.1)
    if figure.get("less_is_better"):
        return bool(found > figure["expected"] * (1 + tolerance))
    return bool(found < figure["expected"] * (1 - tolerance))


if __name__ == "__main__":
    main()
