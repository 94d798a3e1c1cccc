"""A real score run under SIGKILLs, on any storage: its parts must be those of an undisturbed run, byte for byte.

    python -m benchmarks.kill_score --checkpoint MODEL --corpus DOCUMENTS --output OUT --reference UNDISTURBED [--s3]

Runs `jobs.score` with two workers, kills the driver three times and a worker twice at even distances, and starts the
command again until it is done. If `--reference` is not there yet, it is made first, in peace. All may be URIs.
Parts are compared by the SHA-256 in their records; `jobs.verify` then hashes the files themselves. With `--s3` the
corpus is copied to an S3 server that is started for it, and the disturbed run goes from there to there; the reference
stays where it is, and OUT is a name in the bucket.
"""

import argparse
import os
import signal
import subprocess
import sys
import tempfile
import time
from contextlib import ExitStack
from pathlib import Path

import pyarrow.fs as pafs

from rnnlm.bulk.output import OutputFolder
from rnnlm.storage import open_location
from tests.faults.test_kills import workers_of
from tests.servers import BUCKET, environment, serve_s3

KILLS = ["driver", "worker", "driver", "worker", "driver"]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for name in ("checkpoint", "corpus", "output", "reference"):
        parser.add_argument(f"--{name}", required=True)
    parser.add_argument("overrides", nargs="*", help="more for jobs.score, such as corpus.limit=10000")
    parser.add_argument("--s3", action="store_true")
    arguments = parser.parse_args()
    os.environ["RAY_ADDRESS"] = "local"  # a cluster of its own, whatever else runs here
    reference = OutputFolder(open_location(arguments.reference))
    if not reference.started or reference.success() is None:
        began = time.monotonic()
        subprocess.run(score(arguments, arguments.corpus, arguments.reference), check=True)
        print(f"undisturbed: {time.monotonic() - began:.0f} s")
    expected = parts_of(reference)
    with ExitStack() as stack:
        corpus, output = arguments.corpus, arguments.output
        if arguments.s3:
            scratch = stack.enter_context(tempfile.TemporaryDirectory())
            os.environ.update(environment(stack.enter_context(serve_s3(Path(scratch)))))
            corpus, output = f"s3://{BUCKET}/corpus", f"s3://{BUCKET}/{arguments.output}"
            target = open_location(corpus)
            pafs.copy_files(
                str(Path(arguments.corpus).resolve()), target.path, destination_filesystem=target.filesystem
            )
        disturb(score(arguments, corpus, output), OutputFolder(open_location(output)), expected)
        subprocess.run([sys.executable, "-m", "jobs.verify", f"output='{output}'"], check=True)


def score(arguments: argparse.Namespace, corpus: str, output: str) -> list[str]:
    """The command."""
    return [
        sys.executable, "-m", "jobs.score", f"checkpoint={arguments.checkpoint}", "corpus=parquet",
        f"corpus.path='{corpus}'", "cluster.workers=2", f"output='{output}'", *arguments.overrides,
    ]  # fmt: skip


def disturb(command: list[str], folder: OutputFolder, expected: dict[str, str]) -> None:
    """Run, kill, run again, to the end; compare."""
    began = time.monotonic()
    kills = list(KILLS)
    while True:
        driver = subprocess.Popen(command)
        while driver.poll() is None and kills:
            due = (len(KILLS) - len(kills) + 1) * len(expected) // (len(KILLS) + 1)
            if (folder.count_done() if folder.started else 0) >= due and kill(kills[0], driver):
                print(f"{time.monotonic() - began:.0f} s: killed a {kills.pop(0)}", flush=True)
            time.sleep(0.2)
        if driver.wait() == 0:
            break
        assert driver.returncode == -signal.SIGKILL, driver.returncode
    assert not kills, f"it was done before {kills}"
    found = parts_of(folder)
    assert found.keys() == expected.keys()
    assert found == expected, f"{sum(found[name] != expected[name] for name in expected)} parts differ"
    print(f"{len(found)} parts, all equal to the undisturbed run's; {time.monotonic() - began:.0f} s", flush=True)


def parts_of(folder: OutputFolder) -> dict[str, str]:
    """SHA-256 of each part by its name."""
    return {part.name: part.sha256 for record in folder.done().values() for part in record.parts}


def kill(kind: str, driver: subprocess.Popen[bytes]) -> bool:
    """SIGKILL; False if there is nobody of that kind now."""
    if kind == "driver":
        driver.kill()
        return True
    victims = workers_of(driver.pid)
    if victims:
        os.kill(victims[0], signal.SIGKILL)
    return bool(victims)


if __name__ == "__main__":
    main()
