"""What the site of `make docs` is made of, as a hook of MkDocs: the repository's own pages where they lie, and the two
references, which are made of the code while the site is built.

To MkDocs a page has the path that it has in the repository (docs/tour.md, deploy/README.md), so that a link between two
pages works in both. Its address in the site is shorter: what lies in docs/ lies at the top.
"""

import functools
import pkgutil
from pathlib import Path

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files

import rnnlm
from jobs.reference import reference

ROOT = Path(__file__).resolve().parents[1]
OUTSIDE = ("*.md", "benchmarks/*.md", "benchmarks/expected.json", "benchmarks/results/*.md", "deploy/**/*.md")
"Pages of the repository that do not lie in docs/, and what they link to."
FRONT = "README.md"  # the site has a front page of its own


def on_config(config: MkDocsConfig) -> MkDocsConfig:
    """Fill the parts of the navigation that follow from what there is."""
    made = {
        "Configuration": [
            "configuration/index.md",
            {"Jobs": [page for page in _configuration() if "/jobs/" in page]},
            {"Groups": [page for page in _configuration() if "/groups/" in page]},
        ],
        "Library": [{Path(page).stem.replace("index", "Public names"): page} for page in _library()],
        "Measurements": ["benchmarks/README.md", "benchmarks/results/README.md", *_paths("benchmarks/results/2*.md")],
    }
    for section in config.nav or []:
        section.update({title: made[title] for title in section if title in made})
    return config


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Put pages at their paths in the repository, and add those that lie elsewhere or are made."""
    for file in [one for one in files if one.src_dir == config.docs_dir]:
        files.remove(file)
        files.append(_repository_file(f"docs/{file.src_uri}", config, file.dest_uri))
    for pattern in OUTSIDE:
        for path in _paths(pattern):
            files.append(_repository_file(path, config, "readme.html" if path == FRONT else None))
    for path, text in {**_configuration(), **_library()}.items():
        files.append(File.generated(config, path, content=text))
    return files


def _paths(pattern: str) -> list[str]:
    return sorted(path.relative_to(ROOT).as_posix() for path in ROOT.glob(pattern))


def _repository_file(path: str, config: MkDocsConfig, address: str | None) -> File:
    return File(path, str(ROOT), config.site_dir, config.use_directory_urls, dest_uri=address)


@functools.cache
def _configuration() -> dict[str, str]:
    return {f"configuration/{page}": text for page, text in reference(ROOT / "conf").items()}


def _library() -> dict[str, str]:
    """A page of the names that `rnnlm` exports, and one of each module and package below it."""
    names = [_documented(name, heading_level=2) for name in rnnlm.__all__]
    modules = [module.name for module in pkgutil.iter_modules(rnnlm.__path__)]
    pages = {f"library/{name}.md": _documented(name, heading_level=1, show_submodules="true") for name in modules}
    return {"library/index.md": "\n".join(["# rnnlm: the public names\n", *names]), **pages}


def _documented(name: str, **options: object) -> str:
    """What mkdocstrings puts the docstrings of a name of `rnnlm` in place of."""
    lines = [f"      {option}: {value}" for option, value in options.items()]
    return "\n".join([f"::: rnnlm.{name}", "    options:", *lines, ""])
