"""StackVAE-G against the authors' network: equal weights and noise, equal outputs and gradients.

The numbers were recorded from liwk16/StackVAE at 3bc8a9e25478557898e7f2928623de65c1877ffc in
float32, on seeded random weights, the source of normal noise replaced by given tensors.
"""

from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor

from stackwise.build.stackvae_g import StackVAEG

RECORD = load_file(Path(__file__).parents[1] / "data" / "parity" / "stackvae-g.safetensors")
THEIRS = {
    "encoder": "encoder", "feature": "h_z_net.0", "z_mean": "z_mean_net.0",
    "z_logvar": "z_logvar_net.0", "decoder": "decoder", "x_mean": "x_mean_net.0",
    "x_logvar": "x_logvar_net.0", "graph.embeddings.0": "node_emb1", "graph.maps.0": "emb_lin1",
}  # fmt: skip


def their_name(name: str) -> str:
    start = next(one for one in THEIRS if name.startswith(one + "."))
    return THEIRS[start] + name.removeprefix(start)


def output(name: str) -> Tensor:
    return RECORD[f"output/{name}"]


@pytest.fixture(scope="module")
def network() -> StackVAEG:
    """Ours with their weights."""
    made = StackVAEG(channels=6, window=12, hidden=16, latent=5, gamma=0.4, neighbours=3)
    with torch.no_grad():
        for name, parameter in made.named_parameters():
            parameter.copy_(RECORD[f"weights/{their_name(name)}"])
    return made


X, NOISE = RECORD["input/x"], (RECORD["input/noise_z"], RECORD["input/noise_x"])


def test_it_has_as_many_parameters(network):
    assert sum(p.numel() for p in network.parameters()) == 2_511


def test_the_graph_is_theirs(network):
    torch.testing.assert_close(
        network.graph.similarity(), output("node_similarity"), rtol=1e-5, atol=1e-5
    )
    torch.testing.assert_close(network.graph(), output("adjacency"), rtol=1e-5, atol=1e-6)


def test_every_step_is_theirs(network):
    found = network(X, *NOISE)
    encoded = network.encoder(X)
    pairs = {
        "encoder_out": encoded, "h_z": network.feature(encoded), "z_mean": found.mu,
        "z_logvar": found.logvar, "x_mean": found.x_mean, "x_logvar": found.x_logvar,
        "x_hat": found.x_hat,
    }  # fmt: skip
    for name, ours in pairs.items():
        torch.testing.assert_close(ours, output(name), rtol=1e-5, atol=1e-5, msg=name)


def test_losses_and_gradients_are_theirs(network):
    network.zero_grad()
    parts = network.losses(X, *NOISE)
    for ours, name in (("reconstruction", "loss_reconstruction"), ("kl", "loss_kl"),
                       ("graph", "loss_graph"), ("loss", "loss_total")):  # fmt: skip
        torch.testing.assert_close(parts[ours], output(name), rtol=1e-5, atol=1e-5, msg=name)
    parts["loss"].backward()
    for name, parameter in network.named_parameters():
        theirs = output(f"grad/{their_name(name)}")
        torch.testing.assert_close(parameter.grad, theirs, rtol=1e-4, atol=1e-4, msg=name)


@torch.no_grad()
def test_scores_are_theirs(network):
    noise = RECORD["input/noise_z_repeated"].mean(0)
    mean, _ = network.scored(X, noise)
    torch.testing.assert_close(mean, output("x_mean_detect"), rtol=1e-5, atol=1e-5)
    wrong = (mean - X).square()[:, :, -1]
    torch.testing.assert_close(wrong, output("score_detect"), rtol=1e-4, atol=1e-5)


@torch.no_grad()
def test_decoding_the_last_moment_alone_changes_nothing(network):
    torch.testing.assert_close(
        network.last_errors(X), network.window_errors(X)[..., -1], rtol=1e-5, atol=1e-6
    )
