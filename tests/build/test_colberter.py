"""Whole words, the gate, matching and the losses: what holds exactly."""

import hashlib

import numpy as np
import pytest
import torch

from stackwise.build.colberter.learn.losses import PairLoss, margin_mse, mean_gate
from stackwise.build.colberter.learn.stages import stages_of
from stackwise.build.colberter.model.matching import maxsim, maxsim_of_all, pool_whole_words
from stackwise.build.colberter.model.network import ColBERTer, grown
from stackwise.build.colberter.model.passages import passages_of
from stackwise.build.colberter.model.words import WholeWords, word_id
from stackwise.errors import DataError, ModelError
from stackwise.tasks.labels.estimators.learner import text_tokenizer

TEXTS = ["Running, he runs.", "The tail wags the dog; the dog wags.", "naïve façades", "x"]


@pytest.fixture(scope="module")
def tokenizer():
    return text_tokenizer(TEXTS * 4, 270)


@pytest.fixture
def inputs():
    """Three texts of up to five words of eight tokens, with padding."""
    torch.manual_seed(0)
    words = torch.tensor([[3, 7, 9, 11, 20], [3, 8, 0, 0, 0], [7, 9, 20, 0, 0]])
    return {"cls": torch.randn(3, 6), "states": torch.randn(3, 5, 6), "words": words}


def network(**arguments) -> ColBERTer:
    torch.manual_seed(1)
    made = ColBERTer(width=6, cls_dim=4, token_dim=4, **arguments)
    for parameter in made.parameters():
        torch.nn.init.normal_(parameter, std=0.7)
    return made.eval()


def test_a_word_is_the_mean_of_its_tokens_wherever_they_stand():
    torch.manual_seed(0)
    states = torch.randn(2, 6, 3)
    pieces = torch.tensor([[0, 5, 9, 5, 2, 0], [0, 4, 4, 0, 0, 0]])
    words = torch.tensor([[2, 5, 9], [4, 0, 0]])
    found = pool_whole_words(states, pieces, words)
    for row in range(2):
        for place, word in enumerate(words[row].tolist()):
            own = [states[row, i] for i in range(6) if word and pieces[row, i] == word]
            wanted = torch.stack(own).mean(0) if own else torch.zeros(3)
            torch.testing.assert_close(found[row, place], wanted)
    order = torch.tensor([3, 1, 5, 0, 2, 4])
    torch.testing.assert_close(pool_whole_words(states[:, order], pieces[:, order], words), found)
    assert torch.equal(found[0, 0], states[0, 4])  # one piece, one place


def test_a_text_has_each_word_once_however_often_it_is_there(tokenizer):
    reader = WholeWords(tokenizer, "lower")
    once, twice = reader(["the dog wags", "the dog wags the dog wags"])
    assert once.words.tolist() == twice.words.tolist()
    assert sorted(once.surfaces) == ["dog", "the", "wags"]


def test_running_and_runs_meet_by_stems_and_not_in_lower_case(tokenizer):
    (stems,), (lower,) = (WholeWords(tokenizer, how)([TEXTS[0]]) for how in ("stem", "lower"))
    assert len(stems.words) == 4 and len(lower.words) == 5  # with , and .
    assert word_id("run") in stems.words and word_id("running") in lower.words


def test_every_piece_knows_its_word(tokenizer):
    for text in TEXTS:
        (one,) = WholeWords(tokenizer, "lower")([text])
        assert one.pieces[0] == 0  # the token before the text
        assert set(one.pieces[1:]) - {0} == set(one.words)  # 0 of a space by itself


def test_an_id_is_the_first_four_bytes_little_endian_and_never_0():
    digest = hashlib.sha256(b"retrieval").digest()
    assert word_id("retrieval") == int.from_bytes(digest[:4], "little") < 2**32
    assert all(word_id(str(number)) > 0 for number in range(1000))


def test_what_is_no_word_is_refused_in_a_sentence(tokenizer):
    with pytest.raises(DataError, match="has no words after tokenisation"):
        WholeWords(tokenizer)(["  "])
    slow = type("Slow", (), {"is_fast": False})()
    with pytest.raises(ModelError, match="whole words need a fast tokenizer"):
        WholeWords(slow)


@pytest.mark.parametrize("exact", [False, True])
def test_padding_changes_no_score_and_no_gradient_is_lost(inputs, exact):
    made = network(exact_match=exact, final_dim=2)
    alone = []
    for row in range(3):
        count = int((inputs["words"][row] != 0).sum())
        one = {k: v[row : row + 1] for k, v in inputs.items()}
        one |= {k: one[k][:, :count] for k in ("states", "words")}
        alone.append(made(one, one))
    spoiled = dict(inputs)
    spoiled["states"] = inputs["states"].masked_fill((inputs["words"] == 0)[:, :, None], 1e4)
    together = made(spoiled, spoiled)
    torch.testing.assert_close(together, torch.cat(alone))
    together.sum().backward()
    assert all(torch.isfinite(p.grad).all() for p in made.parameters() if p.grad is not None)


def test_all_against_all_is_each_against_each(inputs):
    for exact in (False, True):
        made = network(exact_match=exact)
        query, document = made.queries(inputs), made.documents(inputs)
        scores = made.score_all(query, document).total
        torch.testing.assert_close(scores.diagonal(), made.score(query, document).total)


def test_exact_matching_is_a_join_of_dictionaries(inputs):
    made = network(exact_match=True, stopwords=False)
    query, document = made.queries(inputs), made.documents(inputs)
    token = made.score_all(query, document).token
    for q in range(3):
        for d in range(3):
            known = {
                int(w): v.detach()
                for w, v in zip(document.words[d], document.vectors[d])
                if int(w) != 0
            }
            wanted = 0.0
            for w, v in zip(query.words[q], query.vectors[q]):
                if int(w) and int(w) in known:
                    wanted += max(float(v.detach() @ known[int(w)]), 0.0)
            assert float(token[q, d]) == pytest.approx(wanted, abs=1e-5)


def test_the_merge_goes_from_one_score_to_the_other(inputs):
    made = network()
    for gamma, name in ((200.0, "cls"), (-200.0, "token")):
        with torch.no_grad():
            made.gamma.fill_(gamma)
        scores = made.score(made.queries(inputs), made.documents(inputs))
        torch.testing.assert_close(scores.total, getattr(scores, name))


def test_a_word_counts_as_much_as_its_gate_says(inputs):
    made = network()
    with torch.no_grad():
        made.gate.linear.weight.zero_()
        made.gate.linear.bias.fill_(1.0)
        before = made.documents(inputs).vectors
        made.gate.linear.bias.fill_(2.0)
        torch.testing.assert_close(made.documents(inputs).vectors, 2 * before)


def test_a_gate_that_is_closed_gets_no_gradient_from_its_own_size(inputs):
    made = network()
    with torch.no_grad():
        made.gate.linear.bias.fill_(-100.0)
    mean_gate(made.documents(inputs)).backward()
    assert not made.gate.linear.weight.grad.any() and not made.gate.linear.bias.grad.any()


def test_gates_begin_open():
    assert ColBERTer(width=6).gate.linear.bias.item() == 1.0


def test_closed_words_left_out_score_alike_where_another_word_is_not_negative(inputs):
    """With the authors' rule a closed word is a 0 that wins against negative products; here it is
    not there, in training and in search.
    """
    kept = network(masks_closed=True)
    theirs = network(masks_closed=False)
    query = kept.queries(inputs)
    ours, other = kept.documents(inputs), theirs.documents(inputs)
    closed = other.mask & ~ours.mask
    assert closed.any()
    _, matrix = maxsim(query.vectors, ours.vectors, query.mask, ours.mask)
    best = matrix.max(-1).values
    wanted = torch.where(closed.any(1, keepdim=True), best.clamp(min=0), best)
    token = theirs.score(query, other).token
    torch.testing.assert_close(token, (wanted * query.mask).sum(-1))


def test_margins_do_not_see_a_constant_and_a_copy_is_perfect():
    one, other = torch.randn(8), torch.randn(8)
    margin = torch.randn(8)
    torch.testing.assert_close(
        margin_mse(one, other, margin), margin_mse(one + 5, other + 5, margin)
    )
    assert margin_mse(one, other, one - other) == 0


def test_the_loss_without_a_weight_leaves_the_texts_vector_alone(inputs):
    for weight in (0.0, 0.5):
        made = network(learned_merge=False)
        with torch.no_grad():
            made.gamma.fill_(-200.0)  # the merged score is s_token
        batch = {
            "query": inputs, "positive": inputs, "right": torch.arange(3),
            "known": torch.zeros(3, 3, dtype=torch.bool),
        }  # fmt: skip
        PairLoss(1.0, weight, 0.1)(made, batch).backward()
        assert bool(made.to_cls.weight.grad.abs().sum() > 0) == (weight > 0)


def test_a_document_that_answers_too_is_no_negative(inputs):
    made = network()
    known = torch.zeros(3, 3, dtype=torch.bool)
    known[0, 1] = known[0, 2] = True
    batch = {"query": inputs, "positive": inputs, "known": known, "right": torch.arange(3)}
    scores = made.score_all(made.queries(inputs), made.documents(inputs)).total
    others = torch.nn.functional.cross_entropy(scores[1:], torch.tensor([1, 2]))
    torch.testing.assert_close(PairLoss(1.0, 0.0, 0.0)(made, batch), others * 2 / 3)


def test_a_stage_begins_with_what_the_last_one_learned():
    whole = {"width": 6, "cls_dim": 4, "token_dim": 4, "final_dim": 1, "stopwords": True,
             "exact_match": True, "learned_merge": True}  # fmt: skip
    stages = stages_of(whole, 12)
    assert [(name, epochs) for name, _, epochs in stages] == [
        ("reduce", 6), ("gate", 3), ("narrow", 3)
    ]  # fmt: skip
    assert stages[-1][1] == whole
    assert [name for name, _, _ in stages_of(whole, 5)] == ["narrow"]
    before = ColBERTer(**stages[0][1])
    after = grown(before, **stages[-1][1])
    assert torch.equal(after.to_token.weight, before.to_token.weight)
    assert after.narrow is not None and before.narrow is None


def test_masks_leave_out_what_is_no_word():
    query, document = torch.ones(1, 2, 3), torch.ones(1, 2, 3)
    mask = torch.tensor([[True, False]])
    score, matrix = maxsim(query, document, mask, mask)
    assert score.item() == 3 and matrix[0, 0, 1] == -1000
    assert maxsim_of_all(query, document, mask, mask).item() == 3


def test_long_texts_are_cut_at_sentences_that_overlap():
    def count(texts):
        return [len(text.split()) for text in texts]

    text = " ".join(f"Sentence number {n} is here." for n in range(9))
    found = passages_of(text, 20, count)
    assert len(found) > 1 and all(count([one])[0] <= 20 for one in found)
    assert found[1].startswith(found[0].split(". ")[-1])
    assert passages_of("short", 16, count) == ["short"]
    assert max(count(passages_of("word " * 50, 16, count))) <= 16
    assert " ".join(passages_of("word " * 50, 16, count)).count("word") == 50


def test_rows_of_one_text_are_found_in_numpy_too():
    from stackwise.build.colberter.index.searching import flat_maxsim

    generator = np.random.default_rng(0)
    query, counts = generator.normal(size=(3, 4)).astype(np.float32), [2, 5, 1]
    vectors = generator.normal(size=(8, 4)).astype(np.float32)
    starts = np.array([0, 2, 7])
    found = flat_maxsim(query, vectors, starts)
    for place, (start, count) in enumerate(zip(starts, counts)):
        wanted = (query @ vectors[start : start + count].T).max(1).sum()
        assert found[place] == pytest.approx(wanted, rel=1e-5)
