"""The page of a map of words: map.html for people, map.json for programs."""

import json
from dataclasses import asdict
from pathlib import Path

from rnnlm.evaluation.page import render_page
from rnnlm.evaluation.plots import check_installed
from rnnlm.storage import Location
from rnnlm.vectors.map_plots import plot_lengths, plot_map
from rnnlm.vectors.word_map import WordMap


def write_map(words: WordMap, title: str, checkpoint: str, folder: Location) -> None:
    """Write both files."""
    check_installed()
    folder.join("map.json").write_text(json.dumps(asdict(words), ensure_ascii=False) + "\n")
    page = render_page(
        Path(__file__).with_name("map.html.jinja"),
        title=title,
        checkpoint=checkpoint,
        words=words,
        map=plot_map(words),
        lengths=plot_lengths(words),
    )
    folder.join("map.html").write_text(page)
