"""drug-ner's tagging against the linear tagger that a user would write with scikit-learn, and its
chain against pytorch-crf.

The peer is a pipeline of plain scikit-learn: a dictionary of features a word (the word, its shape,
first and last letters, two neighbours on each side), `DictVectorizer` and `LogisticRegression`.
spaCy's small pipeline and sklearn-crfsuite are not measured here: they are no part of this
environment. Both read lists of words and give tags, of drug reviews in three amounts; which finds
more names, the evidence says.

- tags of 3,000, 12,000 and 48,000 words, end to end;
- the likeliest classes of sentences by a chain over nine classes, three sizes, against pytorch-crf.
"""

from functools import partial
from typing import Any

import torch
from sklearn.feature_extraction import DictVectorizer
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline

from side_by_side import alternate, line
from stackwise.build.drug_ner import CRF, TokenTagger
from stackwise.tasks.tags.baselines.word_windows import shape_of
from stackwise.tasks.tags.task import TagsTask

WORDS = (3_000, 12_000, 48_000)
CHAINS = ((8, 20), (32, 60), (128, 120))
CLASSES, REPEATS, CHAIN_REPEATS = 9, 3, 25
FEW = (
    "both go through the sentence word by word; ours looks back with tensors, which a loop over "
    "the numbers of few sentences beats, and which many sentences need"
)
LINEAR, CHAIN = "scikit-learn, DictVectorizer and LogisticRegression", "pytorch-crf"


def told(words: list[str], place: int) -> dict[str, Any]:
    """What the linear tagger knows of a word."""
    word = words[place].lower()
    known: dict[str, Any] = {"word": word, "shape": shape_of(words[place])}
    for size in range(1, 5):
        known |= {f"first{size}": word[:size], f"last{size}": word[-size:]}
    for offset in (-2, -1, 1, 2):
        at = place + offset
        near = words[at] if 0 <= at < len(words) else "\n"
        known |= {f"word{offset}": near.lower(), f"shape{offset}": shape_of(near)}
    return known


def linear_tags(pipeline: Any, sentences: list[list[str]]) -> list[list[str]]:
    """The peer's tags."""
    found = iter(pipeline.predict([told(row, n) for row in sentences for n in range(len(row))]))
    return [[str(next(found)) for _ in row] for row in sentences]


def some_words(sentences: list[list[str]], count: int) -> list[list[str]]:
    """Sentences with about so many words together."""
    found, left = [], count
    for row in sentences:
        if left <= 0:
            break
        found.append(row[:left])
        left -= len(row)
    return found


def measure_tags(threads: int) -> None:
    """Print the cases of tagging."""
    task = TagsTask.load("drug-names", max_rows=150)
    X, y = task.part("train")
    every = [one.tokens for one in task.sentences]
    few = {"vector_epochs": 1, "max_epochs": 1, "min_steps": 0, "validation": 0.0}
    tagger = TokenTagger(**few, threads=threads)
    tagger.fit(X, y)
    pipeline = make_pipeline(DictVectorizer(), LogisticRegression(max_iter=10))
    labels = [tag for row in y for tag in row]
    pipeline.fit([told(row, n) for row in X for n in range(len(row))], labels)
    for count in WORDS:
        asked = some_words(every, count)
        found = alternate(
            partial(tagger.predict, asked), partial(linear_tags, pipeline, asked), REPEATS
        )
        line(f"tags of {count:,} words", *found, LINEAR, "s", "float32", threads)


def measure_chains(threads: int) -> None:
    """Print the cases of the chain."""
    import torchcrf

    torch.manual_seed(0)
    for rows, length in CHAINS:
        chain, peer = CRF(CLASSES), torchcrf.CRF(CLASSES, batch_first=True)
        peer.start_transitions.data, peer.end_transitions.data = chain.start.data, chain.end.data
        peer.transitions.data = chain.transition.data
        emissions = torch.randn(rows, length, CLASSES)
        mask = torch.arange(length) < torch.randint(1, length + 1, (rows, 1))
        mask[:, 0] = True
        decode = partial(peer.decode, emissions, mask=mask)
        found = alternate(partial(chain.decode, emissions, mask), decode, CHAIN_REPEATS)
        case = f"likeliest classes of {rows} sentences of up to {length} words"
        line(case, *found, CHAIN, "s", "float32", threads, FEW)


def main() -> None:
    """Print a line a case."""
    threads = 1
    torch.set_num_threads(threads)
    measure_tags(threads)
    measure_chains(threads)


if __name__ == "__main__":
    main()
