"""The layers behind the encoder against numbers that the authors' own code gave.

`tests/data/parity/colberter.safetensors`: five networks of the authors' `ColBERTer` (commit
6d31ddb, the encoder replaced by given token vectors), their weights, inputs and outputs in float32.
"""

from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from stackwise.build.colberter.model.matching import pool_whole_words
from stackwise.build.colberter.model.network import ColBERTer

RECORD = load_file(Path(__file__).parents[1] / "data" / "parity" / "colberter.safetensors")
FORMS = {
    "words": {},
    "words_exact": {"exact_match": True},
    "words_exact_one": {"exact_match": True, "final_dim": 1},
    "subwords": {"stopwords": False},
    "subwords_exact": {"exact_match": True},
}
NAMES = {
    "to_cls": "compressor_retrieval", "to_token": "compressor", "gate.linear": "stop_word_reducer",
    "narrow": "mini_compressor",
}  # fmt: skip


def network_of(form: str) -> ColBERTer:
    """A network with the authors' weights, and their rule for closed words."""
    made = ColBERTer(width=24, cls_dim=8, token_dim=10, masks_closed=False, **FORMS[form])
    weights = {"gamma": RECORD[f"weights/{form}/score_merger"]}
    for own, theirs in NAMES.items():
        for part in ("weight", "bias"):
            name = f"weights/{form}/{theirs}.{part}"
            if name in RECORD:
                weights[f"{own}.{part}"] = RECORD[name]
    made.load_state_dict(weights)
    return made.eval()


def inputs(side: str, form: str) -> dict[str, torch.Tensor]:
    """Pooled states for networks on words, the tokens themselves for those on sub-words."""
    hidden = RECORD[f"input/{side}_encoder_output"]
    if form.startswith("subwords"):
        mask = RECORD[f"input/{side}_attention_mask"]
        words = (RECORD[f"input/{side}_input_ids"] + 1) * mask
        return {"cls": hidden[:, 0], "states": hidden, "words": words}
    words = RECORD[f"input/{side}_unique_words"]
    pieces = RECORD[f"input/{side}_input_ids_to_words_map"]
    return {
        "cls": hidden[:, 0], "states": pool_whole_words(hidden, pieces, words), "words": words
    }  # fmt: skip


@pytest.mark.parametrize("form", FORMS)
@torch.no_grad()
def test_vectors_gates_and_scores_are_those_of_the_authors(form: str):
    network = network_of(form)
    query = network.queries(inputs("query", form))
    document = network.documents(inputs("document", form))

    def theirs(name: str) -> torch.Tensor:
        return RECORD[f"output/{form}/{name}"]

    torch.testing.assert_close(query.cls, theirs("query_retrieval_vector"))
    torch.testing.assert_close(document.cls, theirs("document_retrieval_vector"))
    for side, found in (("query", query), ("document", document)):
        real = found.real
        assert torch.equal(real, theirs(f"{side}_mask").bool())
        torch.testing.assert_close(found.vectors[real], theirs(f"{side}_vectors")[real])
    if document.gates is not None:
        gates = theirs("stopword_gate")[:, :, 0]
        torch.testing.assert_close(document.gates[document.real], gates[document.real])
        kept = document.real & (document.gates > 0)
        assert torch.equal(kept, theirs("document_stored_mask").bool())
    scores = network.score(query, document)
    torch.testing.assert_close(scores.token, theirs("score_refine"))
    torch.testing.assert_close(scores.cls, theirs("score_retrieval"))
    torch.testing.assert_close(scores.total, theirs("score"))


@torch.no_grad()
def test_words_are_pooled_as_the_authors_pool_them():
    network = network_of("words")
    given = inputs("document", "words")
    before = network.to_token(given["states"])
    real = given["words"] != 0
    wanted = RECORD["output/words/document_before_gate"]
    torch.testing.assert_close(before[real], wanted[real])


@torch.no_grad()
def test_masking_closed_words_changes_only_scores_that_a_closed_word_had_won():
    authors, ours = network_of("words"), network_of("words")
    ours.masks_closed = True
    query, document = authors.queries(inputs("query", "words")), inputs("document", "words")
    theirs, masked = authors.documents(document), ours.documents(document)
    assert (theirs.mask & ~masked.mask).any()  # some word is closed
    one, other = authors.score(query, theirs), ours.score(query, masked)
    assert (other.token <= one.token + 1e-6).all()
