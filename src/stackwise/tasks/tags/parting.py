"""Part sentences so that the test part has names that training never saw.

A share of the names is drawn. Every sentence that has one of them is a test sentence, and with them
go, by the share of the test part, sentences without any name. Validation is parted from the rest in
the same way, so that what is tuned there is tuned for new names too.
"""

from collections.abc import Sequence

import numpy as np

from stackwise.errors import DataError
from stackwise.tasks.labelled.split import Parts
from stackwise.tasks.tags.sentences import Sentence, surface


def parted_by_names(
    sentences: Sequence[Sentence], unseen: float, *, validation: float, test: float, seed: int
) -> Parts:
    """The parts of sentences by names.

    Args:
        unseen: share of the different names that only test sentences have.
        validation: share of the other names that training sentences do not have.
        test: share of the sentences without a name that go to the test part.

    Raises:
        DataError: a part would be empty.
    """
    generator = np.random.default_rng(seed)
    names = [{surface(one.tokens, span) for span in one.spans or ()} for one in sentences]
    rows = np.arange(len(sentences))
    parts = {}
    for part, share, blank in (("test", unseen, test), ("validation", validation, validation)):
        known = sorted({name for row in rows for name in names[row]})
        drawn = generator.permutation(len(known))[: max(1, round(share * len(known)))]
        held = {known[place] for place in drawn}
        bare = [row for row in rows if not names[row]]
        taken = set(generator.permutation(bare)[: round(blank * len(bare))].tolist())
        taken |= {int(row) for row in rows if names[row] & held}
        parts[part] = np.array(sorted(taken), dtype=np.int64)
        rows = np.setdiff1d(rows, parts[part])
    if not len(rows) or not any(names[row] for row in rows):
        raise DataError(
            f"--unseen {unseen:g} leaves no training sentence with a name: "
            f"{len({n for of in names for n in of})} names are too few to part by"
        )
    return Parts(rows, parts["validation"], parts["test"])
