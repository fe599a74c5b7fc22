"""Run the blocks of a frozen language model in another order: skip some, loop others.

For a question and its answer, search the paths through the blocks P = [i_1, ..., i_K], which begin
as the model's own order and are edited by leaving out up to 4 blocks in a row, or by repeating
them, for the shortest one along which the model is right:

    UCB(P) = Q(P) / v(P) + c sqrt(ln V / v(P)) - lambda |P| / N

A search that is told the answer says what the blocks could do, not what a user gets: with hundreds
of paths and four choices almost any answer is reached. `probe cola` shows that beside its controls;
`apply cola` makes something of it that needs no answers: one path for a task, chosen on training
and validation questions and kept as an ordinary model.

Source: arXiv 2507.07996, whose search has no public code. The authors' follow-up has some (PoLar,
arXiv 2606.06574, github.com/tianyi-lab/PoLar: a small network learns to propose paths; the search
is stated again in its appendix B, but not released). The constant c and the cap on a path's length
are not given in the first: 1.8 and twice the depth. When a node gets another child is read
literally (with probability 0.1); `widening` is the sounder rule. Differs from the paper: paths
share their beginnings (runner.py), searches go in step and over processes, and there is a path for
a task.
"""

from stackwise.route.cola.actions import Edit, Space
from stackwise.route.cola.analysis import block_use, evenness, front, rates, vote
from stackwise.route.cola.entry import cola, cola_paths
from stackwise.route.cola.questions import Asked, Asker, Outcome, search_questions
from stackwise.route.cola.runner import Runner, Trie, Work
from stackwise.route.cola.search import Search, Settings, ucb
from stackwise.route.cola.task_path import accuracies, angular_path, task_path

__all__ = [
    "Asked", "Asker", "Edit", "Outcome", "Runner", "Search", "Settings", "Space", "Trie", "Work",
    "accuracies", "angular_path", "block_use", "cola", "cola_paths", "evenness", "front", "rates",
    "search_questions", "task_path", "ucb", "vote",
]  # fmt: skip
