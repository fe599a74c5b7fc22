"""Lattice pruning of models: masks that hold, layers that become smaller, learners and commands."""

import copy
import os
import signal

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence

from stackwise import cli, dependency_lattice, lattice_pruning
from stackwise.catalog import card
from stackwise.errors import Interrupted, KnobError, ModelError
from stackwise.layers.masked_weights import prunable
from stackwise.shrink.lattice_pruning import FewerUnits, edge_mask, lattice_of, units_of
from stackwise.tasks.images.baselines.row_lstm import RowLSTMClassifier
from stackwise.tasks.images.task import ImagesTask
from stackwise.training import session

LAYERS = {
    "rnn": lambda: nn.RNN(3, 10, nonlinearity="relu"),
    "lstm": lambda: nn.LSTM(3, 10, num_layers=2, batch_first=True, dropout=0.1),
    "gru": lambda: nn.GRU(3, 10, num_layers=2, bidirectional=True, bias=False),
}


class Reader(nn.Module):
    """Reads (B, T) numbers and says which of two classes they are."""

    def __init__(self, bidirectional: bool = False) -> None:
        super().__init__()
        self.lstm = nn.LSTM(1, 12, batch_first=True, bidirectional=bidirectional)
        self.head = nn.Linear(12 * (1 + bidirectional), 2)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.lstm(x[..., None])[0].mean(1))


class Cells(nn.Module):
    """A GRU cell and a square matrix, run step by step by the model's own code."""

    def __init__(self) -> None:
        super().__init__()
        self.cell = nn.GRUCell(1, 8)
        self.mixing = nn.Linear(8, 8)

    def forward(self, x: Tensor) -> Tensor:
        h = x.new_zeros(len(x), 8)
        for step in x.T:
            h = self.cell(step[:, None], torch.tanh(self.mixing(h)))
        return h[:, :2]


def seeded(make, seed: int = 0):
    torch.manual_seed(seed)
    return make()


def rows(count: int = 96) -> tuple[Tensor, Tensor]:
    x = torch.randn(count, 7, generator=torch.Generator().manual_seed(0))
    return x, (x.sum(1) > 0).long()


def tuned(model, **knobs):
    options = {"epochs": 3, "batch_size": 16, "lr": 0.01, "weight_decay": 0.1} | knobs
    return lattice_pruning(model, rows(), loss=functional.cross_entropy, **options)


@pytest.mark.parametrize("name", LAYERS)
def test_every_layer_and_direction_gets_its_own_mask_the_same_for_all_gates(name):
    layer = seeded(LAYERS[name])
    pruned = lattice_pruning(layer, quantile=0.6)
    assert type(pruned) is type(layer)
    gates = {"rnn": 1, "lstm": 4, "gru": 3}[name]
    for units in units_of(layer):
        mask = edge_mask(lattice_of(units.influence, quantile=0.6))
        before = dict(layer.named_parameters())[units.name].view(gates, 10, 10)
        after = dict(pruned.named_parameters())[units.name].view(gates, 10, 10)
        assert torch.equal(after, before * mask)
    hidden = [weight for weight, _ in layer.named_parameters() if "weight_hh" in weight]
    assert len(hidden) == len(units_of(layer)) == len(pruned.pruned)
    for other, value in layer.named_parameters():
        if other not in hidden:
            assert torch.equal(dict(pruned.named_parameters())[other], value)


def test_the_report_counts_what_the_weights_hold():
    layer = seeded(LAYERS["lstm"])
    pruned = lattice_pruning(layer, quantile=0.5, notion="poset")
    for report in pruned.pruned:
        weight = dict(pruned.named_parameters())[report["layer"]]
        assert int((weight != 0).sum()) == 4 * report["kept"]
        assert report["sparsity"] == pytest.approx(1 - report["kept"] / 100)
        assert report["of the threshold"] + report["of the lattice"] == pytest.approx(
            report["sparsity"]
        )
        assert report["of the lattice"] > 0


def test_swapping_gates_changes_neither_influence_nor_mask():
    layer = seeded(lambda: nn.LSTM(3, 9))
    swapped = copy.deepcopy(layer)
    with torch.no_grad():
        i, f, g, o = layer.weight_hh_l0.chunk(4)
        swapped.weight_hh_l0.copy_(torch.cat([o, g, i, f]))
    for gates in ("max", "mean"):
        ours, theirs = (units_of(one, gates=gates)[0].influence for one in (layer, swapped))
        assert torch.allclose(ours, theirs)
    assert torch.equal(units_of(layer, gates="i")[0].influence, i.abs())
    assert torch.equal(units_of(layer, gates="o")[0].influence, o.abs())
    gru = nn.GRU(3, 5)
    assert torch.equal(units_of(gru, gates="n")[0].influence, gru.weight_hh_l0[10:].abs())


def test_a_stack_is_one_matrix_of_its_layers():
    layer = seeded(lambda: nn.GRU(3, 4, num_layers=2, bidirectional=True))
    (units,) = units_of(layer, scope="stack")
    assert units.count == 16
    own = layer.weight_hh_l1_reverse.abs().view(3, 4, 4).amax(0)
    assert torch.equal(units.influence[12:, 12:], own)
    below = layer.weight_ih_l1.abs().view(3, 4, 8).amax(0)
    assert torch.equal(units.influence[8:12, :8], below)
    assert not units.influence[:8, 8:].any() and not units.present[:4, 4:8].any()
    pruned = lattice_pruning(layer, scope="stack", keep="score", sparsity=0.75)
    masked = ["weight_hh_l0", "weight_hh_l0_reverse", "weight_hh_l1", "weight_hh_l1_reverse",
              "weight_ih_l1", "weight_ih_l1_reverse"]  # fmt: skip
    kept = sum(int((pruned.get_parameter(name) != 0).sum()) for name in masked)
    assert kept == 3 * round(0.25 * int(units.present.sum()))
    assert torch.equal(pruned.weight_ih_l0, layer.weight_ih_l0)


@pytest.mark.parametrize("keep", ["either", "units"])
def test_what_is_pruned_stays_pruned_while_the_rest_learns(keep):
    model = seeded(Reader)
    before = copy.deepcopy(model.state_dict())
    raw = lattice_pruning(model, keep=keep, notion="poset")
    made = tuned(model, keep=keep, notion="poset")
    assert all(torch.equal(before[name], value) for name, value in model.state_dict().items())
    assert not torch.equal(made.head.weight, raw.head.weight)
    if keep == "units":
        assert made.lstm.kept == raw.lstm.kept
        return
    zeros = raw.lstm.weight_hh_l0 == 0
    assert zeros.any() and torch.equal(made.lstm.weight_hh_l0 == 0, zeros)
    assert not torch.equal(made.lstm.weight_ih_l0, raw.lstm.weight_ih_l0)
    again = Reader()
    again.load_state_dict(made.state_dict())  # the names and shapes of before
    x, _ = rows()
    assert torch.equal(again(x), made(x))


def test_cells_and_named_matrices_are_pruned_too():
    model = seeded(Cells)
    made = tuned(model)
    assert [report["layer"] for report in made.pruned] == ["cell.weight_hh"]
    assert (made.cell.weight_hh == 0).any() and (made.mixing.weight != 0).all()
    named = lattice_pruning(model, include=["mixing"])
    assert (named.mixing.weight == 0).any() and (named.cell.weight_hh != 0).all()


@pytest.mark.parametrize("name", LAYERS)
def test_units_that_lead_nowhere_are_taken_out_without_a_trace(name):
    layer = seeded(LAYERS[name]).eval()
    gone = [1, 4, 7]
    stay = [unit for unit in range(10) if unit not in gone]
    ways = 1 + layer.bidirectional
    with torch.no_grad():
        for parameter, weight in layer.named_parameters():
            if "weight_hh" in parameter:
                weight[:, gone] = 0
            elif "weight_ih" in parameter and "_l0" not in parameter:
                for way in range(ways):
                    weight[:, [10 * way + unit for unit in gone]] = 0
    small = FewerUnits.of(layer, [[stay] * ways] * layer.num_layers)
    x = torch.randn(5, 4, 3)
    head = torch.randn(10 * ways, 2)
    head.view(ways, 10, 2)[:, gone] = 0
    start = torch.randn(layer.num_layers * ways, 5 if layer.batch_first else 4, 10)
    starts = (start, start.flip(0)) if name == "lstm" else start
    for hx in (None, starts):
        (ours, states), (whole, behind) = small(x, hx), layer(x, hx)
        assert torch.allclose(ours @ head, whole @ head, atol=1e-6)
        assert (
            ours.shape == whole.shape and not ours.view(*ours.shape[:2], ways, 10)[..., gone].any()
        )
        if name == "lstm":
            (states, cells), (behind, memory) = states, behind
            assert torch.allclose(cells[..., stay], memory[..., stay], atol=1e-6)
        assert torch.allclose(states[..., stay], behind[..., stay], atol=1e-6)
        assert states.shape == behind.shape and not states[..., gone].any()


def test_a_layer_with_fewer_units_reads_packed_sequences_and_single_ones():
    layer = seeded(lambda: nn.LSTM(3, 6, 2, batch_first=True, bidirectional=True)).eval()
    small = FewerUnits.of(layer, [[[0, 2, 5], [1, 2, 3]], [[0, 1, 2, 3], [2, 3, 4, 5]]])
    x = torch.randn(2, 5, 3)
    packed = pack_padded_sequence(x, torch.tensor([5, 3]), batch_first=True)
    found, _ = pad_packed_sequence(small(packed)[0], batch_first=True)
    assert torch.allclose(found[0], small(x[0])[0], atol=1e-6)
    assert torch.allclose(found[1, :3], small(x[1, :3])[0], atol=1e-6)
    assert sum(p.numel() for p in small.parameters()) < sum(p.numel() for p in layer.parameters())


def test_a_share_of_units_is_met_exactly_and_directions_keep_as_many():
    layer = seeded(lambda: nn.GRU(3, 10, 2, bidirectional=True))
    pruned = lattice_pruning(layer, keep="units", sparsity=0.4)
    assert [[len(units) for units in ways] for ways in pruned.kept] == [[6, 6], [6, 6]]
    free = lattice_pruning(layer, keep="units", notion="poset")
    assert all(len(first) == len(second) for first, second in free.kept)
    for report in free.pruned:
        critical = report["critical"]
        assert critical <= report["kept units"] < 10
    whole = lattice_pruning(nn.RNN(3, 4), keep="units", sparsity=0.0)
    assert type(whole) is nn.RNN


@pytest.mark.parametrize(
    ("make", "knobs", "words"),
    [
        (lambda: nn.Linear(3, 3), {}, "no recurrent layer found"),
        (lambda: nn.LSTM(3, 4, proj_size=2), {}, "has projections .proj_size=2."),
        (lambda: nn.GRU(3, 4), {"gates": "f"}, "gates=f: the layer has the gates r, z, n"),
        (lambda: nn.RNN(3, 4), {"gates": "i"}, "gates=i: the layer has no gates"),
        (lambda: nn.RNN(3, 4), {"scope": "stack"}, "scope=stack needs a layer with several layers"),
        (Cells, {"include": ["cell.weight_ih"]}, "of shape .24, 1., and a matrix of units"),
        (Cells, {"include": ["nowhere"]}, "no weight matched"),
        (Cells, {"keep": "units"}, "is run step by step by the model's own code"),
        (lambda: nn.RNN(3, 4), {"keep": "units", "sparsity": 0.9}, "leaves none of 4 units"),
    ],
)
def test_what_cannot_be_pruned_is_refused_in_one_sentence(make, knobs, words):
    with pytest.raises((ModelError, KnobError), match=words):
        lattice_pruning(make(), **knobs)


def test_a_smaller_layer_of_units_that_are_not_there_is_refused():
    for kept in ([[[0, 4]]], [[[]]], [[[1, 0]]], [[[0], [0, 1]]]):
        with pytest.raises(ModelError, match="kept units must be|as many units each"):
            FewerUnits(kind="GRU", input_size=2, hidden_size=4, kept=kept)


def test_a_void_lattice_is_warned_of():
    with pytest.warns(UserWarning, match="are one element of the order: raise the quantile"):
        made = lattice_pruning(seeded(lambda: nn.RNN(3, 8)), order="reach")
    assert made.pruned[0]["of the lattice"] == 0
    assert "one element" in made.pruned[0]["warning"]


def test_tuning_that_was_stopped_ends_the_same(tmp_path):
    for keep in ("either", "units"):
        plain = tuned(seeded(Reader), keep=keep, notion="poset", epochs=8)

        def stop(event):
            if event["epoch"] == 3:
                os.kill(os.getpid(), signal.SIGTERM)

        with pytest.raises(Interrupted), session(folder=tmp_path / keep, on_event=stop):
            tuned(seeded(Reader), keep=keep, notion="poset", epochs=8)
        with session(folder=tmp_path / keep, resume=True):
            again = tuned(seeded(Reader), keep=keep, notion="poset", epochs=8)
        for name, value in plain.state_dict().items():
            assert torch.equal(again.state_dict()[name], value)


@pytest.mark.slow
def test_the_lattice_of_a_model_is_told_in_tables_and_pictures(tmp_path):
    found = dependency_lattice(seeded(LAYERS["gru"]), quantile=0.6)
    assert list(found.tables) == ["layers", "units", "covers"]
    assert len(found.tables["layers"]) == len(found.figures) == 4
    assert len(found.tables["units"]) == 40
    layers = found.tables["layers"]
    assert (layers["kept by both"] <= layers["kept by either"]).all()
    fuzzy = dependency_lattice(seeded(LAYERS["rnn"]), adjacency="continuous")
    assert list(fuzzy.tables) == ["layers", "units"]
    found.save(tmp_path)
    assert len(list((tmp_path / "figures").iterdir())) == 4


@pytest.fixture(scope="module")
def learner():
    knobs = {"width": 16, "depth": 2, "max_epochs": 3, "patience": None, "threads": 1}
    return ImagesTask.small().fit(RowLSTMClassifier(**knobs))


@pytest.mark.parametrize("keep", ["either", "units"])
def test_a_fitted_learner_is_pruned_and_kept(learner, keep, tmp_path):
    task = ImagesTask.small()
    before = {name: value.clone() for name, value in learner.network_.state_dict().items()}
    made = lattice_pruning(learner, task, keep=keep, notion="poset", epochs=1)
    X, _ = task.part("test")
    assert type(made) is type(learner) and len(made.notes_) == len(learner.notes_) + 2
    assert "irreducible" in made.notes_[-1]
    assert all(torch.equal(before[n], v) for n, v in learner.network_.state_dict().items())
    made.save(tmp_path / "pruned")
    learner.save(tmp_path / "whole")
    again = RowLSTMClassifier.load(tmp_path / "pruned")
    assert (again.predict_proba(X) == made.predict_proba(X)).all()
    small, whole = (
        (tmp_path / name / "model.safetensors").stat().st_size for name in ("pruned", "whole")
    )
    assert small < whole
    twice = lattice_pruning(again, task, keep=keep, sparsity=None, epochs=0)
    twice.save(tmp_path / "twice")
    back = RowLSTMClassifier.load(tmp_path / "twice")
    assert (back.predict_proba(X) == twice.predict_proba(X)).all()


@pytest.mark.slow
def test_the_command_prunes_a_run_and_shows_its_lattice(learner, tmp_path, monkeypatch, capsys):
    from PIL import Image

    from stackwise.tasks.images.small import small_pictures

    for number, (picture, label) in enumerate(zip(*small_pictures(60), strict=True)):
        (tmp_path / "photos" / label).mkdir(parents=True, exist_ok=True)
        Image.fromarray(picture).save(tmp_path / "photos" / label / f"{number}.png")
    monkeypatch.chdir(tmp_path)

    def run(words: str) -> tuple[int, str]:
        monkeypatch.setattr("sys.argv", ["stackwise", *words.split()])
        with pytest.raises(SystemExit) as ended:
            cli.main()
        told = capsys.readouterr()
        return ended.value.code or 0, told.out + told.err

    fit = "fit row-lstm photos/ --set width=8 --set max_epochs=1 --set min_steps=1 --out runs/lstm"
    assert run(fit)[0] == 0
    apply = "apply lattice-pruning runs/lstm --data photos/ --set epochs=1 --set quantile=0.5"
    code, told = run(apply + " --out runs/small --set keep=units")
    assert code == 0 and "before" in told, told
    code, told = run("probe lattice-pruning runs/small --out runs/seen")
    assert code == 0 and "units are irreducible" in told, told
    for wrong, words in (
        ("quantile=1", "quantile must be at least 0 and below 1"),
        ("keep=some", "keep must be either, both, cover, score, units"),
        ("sparsity=0.5", "sparsity is of keep=score and keep=units"),
    ):
        code, told = run(f"apply lattice-pruning runs/lstm --set {wrong} --out runs/wrong")
        assert code == 2 and words in told and "Traceback" not in told, told


def test_the_card_names_what_it_takes():
    for entry in card("lattice-pruning").entries:
        assert entry.takes == ("learner", "module") and entry.having == "recurrent layers"


def test_masked_weights_of_a_layer_that_is_used_twice_are_one():
    model = nn.ModuleDict({"a": nn.RNN(2, 6), "b": nn.RNN(2, 6)})
    model["b"].weight_hh_l0 = model["a"].weight_hh_l0
    made = lattice_pruning(model)
    assert made["a"].weight_hh_l0 is made["b"].weight_hh_l0
    assert len([name for name in prunable(made) if "weight_hh" in name]) == 1
    assert (made["b"].weight_hh_l0 == 0).any()
