"""What StackVAE-G promises exactly: sharing, mixing over the graph, the graph, the losses."""

from itertools import pairwise

import numpy as np
import pytest
import torch
from torch.distributions import Normal, kl_divergence

from stackwise.build.stackvae_g import ChannelGraph, StackVAEG
from stackwise.build.stackvae_g.graph import without_self
from stackwise.tasks.anomalies.detectors.divergence import kl_to_standard_normal


def network(channels: int = 6, **more) -> StackVAEG:
    torch.manual_seed(0)
    sizes = {"window": 12, "hidden": 16, "latent": 5, "neighbours": 3, "init_scale": 0.2}
    return StackVAEG(channels=channels, **sizes | more)


def noise_for(net: StackVAEG, rows: int) -> list[torch.Tensor]:
    return [torch.randn(rows, *shape) for shape in net.noise_shapes]


def test_the_parameters_are_as_many_as_the_formula_says():
    made = StackVAEG(channels=38, window=100)
    assert sum(p.numel() for p in made.parameters()) == 151_930
    assert sum(p.numel() for p in made.graph.parameters()) == 38 * 30 + 930
    more = StackVAEG(channels=39, window=100)
    assert sum(p.numel() for p in more.parameters()) == 151_930 + 30


@pytest.mark.parametrize("directed", [False, True])
def test_rows_of_the_graph_sum_to_one_and_keep_k_neighbours(directed):
    torch.manual_seed(0)
    graph = ChannelGraph(12, neighbours=4, directed=directed)
    found = graph()
    torch.testing.assert_close(found.sum(1), torch.ones(12))
    assert (found >= 0).all() and ((found > 0).sum(1) <= 5).all()
    weights = graph.weights()
    if directed:
        assert not ((weights > 0) & (weights.T > 0)).any()
    else:
        torch.testing.assert_close(weights, weights.T)
    assert weights.max() <= 3


def test_a_graph_without_neighbours_is_no_nan():
    graph = ChannelGraph(4, neighbours=2, directed=True)
    with torch.no_grad():
        for one in graph.embeddings:
            one.weight.zero_()
    torch.testing.assert_close(graph(), torch.eye(4))
    assert (without_self(torch.eye(4)) == 0).all()


def test_the_default_start_is_saturated_and_a_small_one_is_not():
    torch.manual_seed(0)
    assert ChannelGraph(38).saturated() > 0.4
    assert ChannelGraph(38, init_scale=0.1).saturated() < 0.1


def test_channels_share_weights():
    net, x = network(gamma=0.0), torch.randn(3, 6, 12)
    order = torch.randperm(6)
    torch.testing.assert_close(net(x[:, order]).x_mean, net(x).x_mean[:, order])


def test_with_the_graph_permuted_too_channels_still_share_weights():
    net, x = network(gamma=0.5), torch.randn(3, 6, 12)
    order = torch.randperm(6)
    before = net(x).x_mean[:, order]
    with torch.no_grad():
        net.graph.embeddings[0].weight.copy_(net.graph.embeddings[0].weight[order])
    torch.testing.assert_close(net(x[:, order]).x_mean, before, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("gamma", [0.0, 0.5])
def test_a_channel_sees_its_neighbours_alone(gamma):
    net = network(gamma=gamma)
    x = torch.randn(1, 6, 12, requires_grad=True)
    linked = net.graph().detach() > 0
    for place in range(6):
        (grad,) = torch.autograd.grad(net(x).x_mean[0, place].sum(), x)
        seen = grad[0].abs().sum(1) > 0
        wanted = linked[place] if gamma else torch.eye(6, dtype=torch.bool)[place]
        assert torch.equal(seen, wanted)


def test_the_graph_loss_teaches_the_graph_alone():
    net, x = network(), torch.randn(4, 6, 12)
    net.losses(x)["graph"].backward()
    taught = {name for name, p in net.named_parameters() if p.grad is not None}
    assert taught and all(name.startswith("graph.") for name in taught)
    alone = network(gamma=0.0, graph_weight=0.0)
    alone.losses(x)["loss"].backward()
    assert all(p.grad is None for p in alone.graph.parameters())


def test_the_loss_sums_over_channels_and_means_over_windows():
    net, x = network(3, gamma=0.0, graph_weight=0.0), torch.randn(4, 3, 12)
    once = net.losses(x)
    twice = net.losses(torch.cat([x, x], dim=1))
    for name in ("reconstruction", "kl"):
        torch.testing.assert_close(twice[name], 2 * once[name])
    torch.testing.assert_close(net.losses(torch.cat([x, x]))["loss"], once["loss"])


def test_the_divergence_is_the_known_one():
    mean, logvar = torch.randn(7, 3), torch.randn(7, 3)
    wanted = kl_divergence(Normal(mean, torch.exp(logvar / 2)), Normal(0.0, 1.0))
    torch.testing.assert_close(kl_to_standard_normal(mean, logvar), wanted)
    assert (kl_to_standard_normal(torch.zeros(2), torch.zeros(2)) == 0).all()


def test_the_gaussian_likelihood_is_torchs():
    net, x = network(likelihood="gaussian"), torch.randn(4, 6, 12)
    found = net(x)
    log_p = Normal(found.x_mean, torch.exp(found.x_logvar / 2)).log_prob(x)
    torch.testing.assert_close(net.losses(x)["reconstruction"], -log_p.sum((1, 2)).mean())
    scaled = (found.x_mean - x).square() / found.x_logvar.exp()
    net.mean_noise.zero_()
    torch.testing.assert_close(net.window_errors(x), scaled)
    torch.testing.assert_close(net.last_errors(x), scaled[..., -1])


def test_a_graph_that_is_the_identity_costs_nothing():
    net = network(gamma=0.0)
    with torch.no_grad():
        net.graph.embeddings[0].weight.zero_()
        net.graph.maps[0].bias.zero_()
    assert net.losses(torch.randn(2, 6, 12))["graph"] == 0
    net.self_loops = False
    assert net.losses(torch.randn(2, 6, 12))["graph"] > 0


@torch.no_grad()
def test_many_draws_come_near_to_the_mean_and_none_is_their_limit():
    x = torch.randn(5, 6, 12)
    limit = network(n_samples=0)
    sizes = []
    for draws in (2, 20_000):
        net = network(n_samples=draws)
        net.load_state_dict(limit.state_dict() | {"mean_noise": net.mean_noise})
        sizes.append((net.scored(x)[0] - limit.scored(x)[0]).abs().max())
    assert sizes[1] < 0.05 * sizes[0]
    certain = network(n_samples=2)
    certain.load_state_dict(limit.state_dict() | {"mean_noise": certain.mean_noise})
    certain.z_logvar.weight.zero_()
    certain.z_logvar.bias.fill_(-60.0)
    torch.testing.assert_close(certain.scored(x)[0], limit.scored(x)[0])


def test_a_joint_autoencoder_of_equal_hidden_size_is_ten_times_as_large():
    channels, window, hidden, latent = 38, 100, 200, 20
    sizes = [channels * window, hidden * channels, hidden * channels, latent * channels]
    encoder = sum(a * b + b for a, b in pairwise(sizes))
    ours = sum(p.numel() for p in StackVAEG(channels=38).parameters())
    assert ours * 10 < encoder and np.isfinite(encoder)
