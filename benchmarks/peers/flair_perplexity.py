"""flair's character language model reads texts: `calculate_perplexity`, one text a call, as its tutorial has it.

Run by `benchmarks.peers.environments.ask`: the question has `weights` (a file of torch.save), `characters`, `hidden`,
`embedding` and `texts`; the answer CPU seconds and a perplexity a text.
"""

import json
import sys
import time
from pathlib import Path

import torch
from flair.data import Dictionary
from flair.models import LanguageModel

WARM_UP = 4


def main() -> None:
    question = json.loads(Path(sys.argv[1]).read_text())
    torch.set_num_threads(1)
    dictionary = Dictionary(add_unk=False)
    for character in question["characters"]:
        dictionary.add_item(character)
    model = LanguageModel(dictionary, True, question["hidden"], 1, embedding_size=question["embedding"])
    model.load_state_dict(torch.load(question["weights"]))
    model.eval()
    texts = question["texts"]
    with torch.inference_mode():
        for text in texts[:WARM_UP]:
            model.calculate_perplexity(text)
        began = time.process_time()
        perplexities = [model.calculate_perplexity(text) for text in texts]
        seconds = time.process_time() - began
    print(json.dumps({"seconds": seconds, "perplexities": perplexities}))


if __name__ == "__main__":
    main()
