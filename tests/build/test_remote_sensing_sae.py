"""What the digest of remote-sensing-sae promises exactly: shapes, order, penalty, freezing."""

import numpy as np
import pytest
import torch
from torch.nn import functional

from stackwise.build.remote_sensing_sae.knobs import STAGES
from stackwise.build.remote_sensing_sae.network import Autoencoder, StackedEncoder
from stackwise.build.remote_sensing_sae.rule import StageBatches, penalty, phases_of, stage_loss
from stackwise.training.loop import train_phases


def network(bands=10, **more):
    torch.manual_seed(0)
    return StackedEncoder(features=bands, stages=STAGES, code_dim=2, **more)


def pixels(count=50, bands=10, seed=0):
    return torch.rand(count, bands, generator=torch.Generator().manual_seed(seed))


def test_parameters_are_as_many_as_the_paper_has():
    counts = [sum(p.numel() for p in stage.parameters()) for stage in network().stages]
    assert counts == [216, 572, 1257]


@pytest.mark.parametrize("bands", [4, 7, 9, 10])
def test_a_stage_reads_what_the_one_before_made_and_what_that_read(bands):
    net, x = network(bands), pixels(bands=bands)
    first, second = net.stage(0), net.stage(1)
    x2, x3 = net.inputs_of(1, x.T), net.inputs_of(2, x.T)
    assert x2.shape == (2 * bands, 50) and x3.shape == (2 * bands + 5, 50)
    back, _ = first(x.T)
    torch.testing.assert_close(x2, torch.cat([back, x.T]), rtol=0, atol=0)
    _, layers = second(x2)
    assert layers[1].shape == (5, 50)  # h2: the layer before the code, after its SELU
    torch.testing.assert_close(x3, torch.cat([layers[1], x2]), rtol=0, atol=0)
    assert net(x).shape == (50, 2)
    torch.testing.assert_close(net(x).T, net.stage(2)(x3)[1][3], rtol=0, atol=0)


def test_a_cleared_first_output_changes_its_reconstruction_alone():
    net, x = network(), pixels()
    before = net.inputs_of(1, x.T)
    torch.nn.init.zeros_(net.stage(0).decoder[-1].weight)
    after = net.inputs_of(1, x.T)
    assert (after[:10] == 0.5).all() and not torch.equal(before[:10], after[:10])
    torch.testing.assert_close(before[10:], after[10:], rtol=0, atol=0)


def test_layers_are_those_of_plain_linear_layers():
    torch.manual_seed(1)
    coder, x = Autoencoder(6, [4, 3], 2), pixels(bands=6)
    layers, here = [], x
    for layer in (*coder.encoder, *coder.decoder[:-1]):
        here = functional.selu(layer(here))
        layers.append(here)
    back = torch.sigmoid(coder.decoder[-1](here))
    found, given = coder(x.T)
    torch.testing.assert_close(found.T, back)
    for one, other in zip(given, [*layers, back], strict=True):
        torch.testing.assert_close(one.T, other)
    torch.testing.assert_close(coder.decode(coder.encode(x.T)).T, back)
    bound = (6 / (6 + 4)) ** 0.5
    assert coder.encoder[0].weight.abs().max() <= bound and (coder.encoder[0].bias == 0).all()


def test_the_loss_is_the_closed_formula():
    net, x = network(), pixels(count=7)
    error, more = stage_loss(net, 0, x.T, 1e-4)
    back, layers = net.stage(0)(x.T)
    total = sum(float(layer.detach().abs().sum()) for layer in layers) / 7
    assert float(error) == pytest.approx(float(((back - x.T) ** 2).sum()) / 70, abs=1e-6)
    assert float(more) == pytest.approx(1e-4 * total, abs=1e-6)
    assert len(layers) == 6  # the output is penalised too
    plain, nothing = stage_loss(net, 0, x.T, 0.0)
    assert float(nothing) == 0 and float(plain) == float(error)


def test_the_penalty_of_a_batch_is_the_mean_of_its_rows():
    net, x = network(), pixels(count=9)
    _, layers = net.stage(0)(x.T)
    alone = [float(penalty(net.stage(0)(row[:, None])[1])) for row in x]
    assert float(penalty(layers)) == pytest.approx(np.mean(alone), rel=1e-5)


def phases(net, x, **more):
    given = {"epochs": [1, 1, 1], "batch_size": [16, 16, 16], "joint_epochs": 0,
             "activity_l1": 1e-4, "lr": 1e-2, "seed": 0}  # fmt: skip
    return phases_of(net, x, **given | more)


def test_a_stage_learns_alone():
    net, x = network(), pixels()
    states = [{n: p.clone() for n, p in net.state_dict().items()}]

    class Watched:
        """A phase's batches, which look at the weights before each epoch of theirs."""

        def __init__(self, inner):
            self.inner = inner

        def __len__(self):
            return len(self.inner)

        def epoch(self, index, start=0):
            states.append({n: p.clone() for n, p in net.state_dict().items()})
            for batch in self.inner.epoch(index, start):
                yield batch
                learning = {n for n, p in net.named_parameters() if p.requires_grad}
                assert len({n.split(".")[1] for n in learning}) == 1

    plan = phases(net, x)
    for phase in plan:
        phase.batches = Watched(phase.batches)
    train_phases(net, plan, device="cpu")
    states.append(net.state_dict())
    for stage in range(3):
        before, after = states[stage + 1], states[stage + 2]
        for name in before:
            same = torch.equal(before[name], after[name])
            assert same == (not name.startswith(f"stages.{stage}.")), name


def test_what_a_stage_reads_is_made_by_the_stages_that_have_learned():
    net, x = network(), pixels()
    batches = StageBatches(net, x, 1, 50, 0)
    with torch.no_grad():
        net.stage(0).decoder[-1].bias.add_(3)  # as if it had learned since
        wanted = net.inputs_of(1, x.T).T
    found = torch.cat([batch["x"] for batch in batches.epoch(0)])
    assert torch.equal(found[:, 10:].sum(1).sort().values, x.sum(1).sort().values)
    torch.testing.assert_close(found[:, 0].sort().values, wanted[:, 0].sort().values)


def test_scaled_stages_read_0_to_1_and_the_way_back_undoes_it():
    net, x = network(scale_stages=True), pixels(count=200)
    train_phases(net, phases(net, x, epochs=[2, 2, 2]), device="cpu")
    for place in (1, 2):
        read = net.inputs_of(place, x.T)
        assert float(read.min()) >= -1e-6 and float(read.max()) <= 1 + 1e-6
        torch.testing.assert_close(read.amax(1), torch.ones(len(read)))
    plain = network()
    assert plain.inputs_of(2, x.T).min() < 0  # which a sigmoid does not give back
    z = net(x)
    last = net.stage(2).decode(z.T)
    low, span = net.get_buffer("low2"), net.get_buffer("span2")
    undone = (last * span[:, None] + low[:, None])[-20:]
    low, span = net.get_buffer("low1"), net.get_buffer("span1")
    undone = (undone * span[:, None] + low[:, None])[-10:]
    torch.testing.assert_close(net.decode(z), undone.T)


def test_decoding_takes_the_row_out_of_what_the_last_stage_gives_back():
    net, x = network(), pixels()
    z = net(x)
    torch.testing.assert_close(net.decode(z), net.stage(2).decode(z.T)[-10:].T)


def test_all_stages_learn_together_at_the_end_where_that_is_wanted():
    net, x = network(), pixels()
    plan = phases(net, x, joint_epochs=1)
    assert [phase.name for phase in plan] == ["stage 1", "stage 2", "stage 3", "all stages"]
    before = {name: p.clone() for name, p in net.named_parameters()}
    train_phases(net, plan[-1:], device="cpu")
    assert all(not torch.equal(before[n], p) for n, p in net.named_parameters())


def test_phases_share_a_limit_of_time_by_their_steps():
    plan = phases(network(), pixels(64), epochs=[10, 5, 5], batch_size=[64, 32, 16])
    assert [phase.ends_at for phase in plan] == [10 / 40, 20 / 40, 1.0]
