"""What a page shows of finished runs on tags: the scores of each type, how names that training saw
and new ones compare, and the names that the kept run missed and invented, where they stand.
"""

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

import pandas as pd

from stackwise.figures import COLOURS, drawing, legend_below, new_figure, says
from stackwise.findings import Findings
from stackwise.protocols import RunLike
from stackwise.tasks.tags.schemes import Span
from stackwise.tasks.tags.scoring import scores_of
from stackwise.tasks.tags.sentences import Sentence

TRUE, SAID = "names", "found"
"""Columns of a run's answers: the names of a sentence and those that were found, as JSON lists of
[start, end, type, text, the text around it]."""
MISTAKES = 12
AROUND = 40
"""Characters of a text before and behind a name that are shown."""


def with_names(
    samples: pd.DataFrame,
    sentences: Sequence[Sentence],
    truth: Sequence[Sequence[Span]],
    said: Sequence[Sequence[Span]],
) -> pd.DataFrame:
    """The answers with the names of each sentence, and those that were found."""
    columns = {
        name: [
            json.dumps([_shown(one, span) for span in of], ensure_ascii=False)
            for one, of in zip(sentences, spans, strict=True)
        ]
        for name, spans in ((TRUE, truth), (SAID, said))
    }
    return samples.assign(**columns)


def shows(runs: Sequence[RunLike], data: Mapping[str, Any]) -> Findings:
    """What a page shows of finished runs, the run to keep first.

    Returns:
        Tables of types, of names that were missed and of names that were invented, and a figure of
        recall on names that training saw and on new ones.
    """
    if not runs:
        return Findings()
    answers = runs[0].predictions_on("test")
    if TRUE not in answers:
        return Findings()
    truth, said = ([json.loads(row) for row in answers[name]] for name in (TRUE, SAID))
    found = Findings({"types": by_type(truth, said)})
    rows = list(zip(truth, said, strict=True))
    missed = [name for one, other in rows for name in _without(one, other)]
    invented = [name for one, other in rows for name in _without(other, one)]
    for title, names in (("missed names", missed), ("invented names", invented)):
        if names:
            found.tables[title] = _table(names)
    title = "Names that training saw, and new ones"
    figure = _seen_and_new(runs)
    if figure is not None:
        found.figures[title] = figure
        found.summary[title] = (
            "Share of the test names that were found, of those that training saw and of those that "
            "it did not."
        )
    return found


def by_type(truth: Sequence[Any], said: Sequence[Any]) -> pd.DataFrame:
    """Precision, recall, F1 and the number of test names of each type."""
    right: Counter[str] = Counter()
    of_truth, of_said = (Counter(name[2] for row in rows for name in row) for rows in (truth, said))
    for one, other in zip(truth, said, strict=True):
        right.update(name[2] for name in one if tuple(name[:3]) in {tuple(n[:3]) for n in other})
    types = sorted({*of_truth, *of_said})
    return pd.DataFrame(
        {
            "precision": [right[t] / of_said[t] if of_said[t] else 0.0 for t in types],
            "recall": [right[t] / of_truth[t] if of_truth[t] else 0.0 for t in types],
            "f1": [2 * right[t] / (of_said[t] + of_truth[t]) for t in types],
            "names": [of_truth[t] for t in types],
        },
        index=pd.Index(types, name="type"),
    )


def _shown(sentence: Sentence, span: Span) -> list[Any]:
    start, end = sentence.places[span.start][0], sentence.places[span.end - 1][1]
    text = sentence.text
    before = ("…" if start > AROUND else "") + text[max(start - AROUND, 0) : start]
    behind = text[end : end + AROUND] + ("…" if end + AROUND < len(text) else "")
    around = " ".join(f"{before}[{text[start:end]}]{behind}".split())
    return [span.start, span.end, span.type, text[start:end], around]


def _without(names: Sequence[Any], others: Sequence[Any]) -> list[Any]:
    known = {tuple(name[:3]) for name in others}
    return [name for name in names if tuple(name[:3]) not in known]


def _table(names: Sequence[Any]) -> pd.DataFrame:
    """The commonest of some names, and where the first of each stands."""
    counts = Counter((name[3], name[2]) for name in names)
    first: dict[tuple[str, str], str] = {}
    for name in names:
        first.setdefault((name[3], name[2]), name[4])
    rows = [
        {"name": name, "type": of, "times": count, "where": first[name, of]}
        for (name, of), count in counts.most_common(MISTAKES)
    ]
    return pd.DataFrame(rows).set_index("name")


def _seen_and_new(runs: Sequence[RunLike]) -> Any:
    """Recall of each method on names that training saw and on new ones; None without new ones."""
    scores: dict[str, dict[str, float]] = {}
    for run in runs:
        slug = str(run.record.get("method", run.record["slug"]))
        if slug not in scores:
            scores[slug] = scores_of(run.predictions_on("test"))
    kinds = ("recall_seen", "recall_unseen")
    if not all(kind in of for of in scores.values() for kind in kinds):
        return None
    with drawing():
        figure, axes = new_figure(height=90 + 34 * len(scores))
        for place, (slug, of) in enumerate(scores.items()):
            for number, kind in enumerate(kinds):
                (bar,) = axes.barh(
                    place + 0.2 * (2 * number - 1), of[kind], 0.36, color=COLOURS[number],
                    label=("seen in training", "new")[number] if not place else None,
                )  # fmt: skip
                says(bar, f"{slug}: {of[kind]:.1%}")
        axes.set_yticks(range(len(scores)), list(scores))
        axes.set_ylim(len(scores) - 0.5, -0.5)
        axes.set_xlim(0, 1)
        axes.set_xlabel("recall")
        axes.grid(axis="y", visible=False)
        legend_below(figure, axes)
    return figure
