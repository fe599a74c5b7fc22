"""Why a document was found: each word of the query, the word that it matched, and what that gave.

    s = sigmoid(gamma) s_CLS + sum over query words of (1 - sigmoid(gamma)) max product

The rows add up to the score. The page shades the words of a document by what they gave.
"""

import html
from collections.abc import Mapping, Sequence
from typing import Any

from stackwise.tasks.retrieval.hits import Hit, Hits

WHOLE = "(the whole text)"
"""What stands for words in the row of the texts' own vectors."""
STYLE = """
body { font: 16px/1.5 system-ui, sans-serif; max-width: 50rem; margin: 2rem auto; padding: 0 1rem;
  color: #222; background: #fff }
h1 { font-size: 1.3rem } .hit { border-top: 1px solid #ddd; padding: .8rem 0 }
.id { color: #555; font-size: .85rem } 
mark { color: inherit; border-radius: .2rem; padding: 0 .1rem }
table { border-collapse: collapse; font-size: .85rem; margin-top: .4rem }
td { padding: .1rem .8rem .1rem 0 } td:last-child { text-align: right }
"""


class ExplainedHits(Hits):
    """Hits that say why: each has `words`, rows of `query_word`, `document_word`, `score`, `share`,
    and `spans`, the pieces of its text with what each gave.
    """

    def page(self) -> str:
        """The hits as a page by itself, their words shaded."""
        body = "".join(_of_hit(one) for one in self)
        return (
            '<!doctype html><html lang="en"><head><meta charset="utf-8">'
            '<meta name="viewport" content="width=device-width, initial-scale=1">'
            f"<title>{html.escape(self.query)}</title><style>{STYLE}</style></head>"
            f"<body><h1>{html.escape(self.query)}</h1>{body}</body></html>\n"
        )


def _of_hit(one: Hit) -> str:
    rows = "".join(
        f"<tr><td>{html.escape(row['query_word'])}</td><td>{html.escape(row['document_word'])}</td>"
        f"<td>{row['score']:+.3f}</td></tr>"
        for row in one.get("words", ())
    )
    return (
        f'<section class="hit"><p class="id">{one["rank"]}. {html.escape(one["id"])}, score '
        f"{one['score']:.3f}</p><p>{shaded(one.get('spans', ()))}</p><table>{rows}</table>"
        "</section>"
    )


def shaded(spans: Sequence[Mapping[str, Any]]) -> str:
    """A text in HTML, its words shaded by what they gave, relative to the one that gave most."""
    most = max((float(one["score"]) for one in spans), default=0.0)
    found = []
    for one in spans:
        text, score = html.escape(str(one["text"])), float(one["score"])
        if score <= 0 or most <= 0:
            found.append(text)
            continue
        found.append(
            f'<mark style="background: rgba(255, 170, 0, {0.15 + 0.75 * score / most:.2f})" '
            f'title="{score:.3f}">{text}</mark>'
        )
    return "".join(found)
