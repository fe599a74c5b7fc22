"""StackVAE-G against a loop over channels, a bare training loop, and an isolation forest.

- scoring windows of 8, 38 and 128 channels: all channels in one pass, against the same network
  called channel by channel (no graph, so that both do the same work);
- a training step with the graph at 38 channels, against the channels one after another;
- an epoch through the estimator, against a bare loop over the same windows;
- scoring a series of 38 channels from array to scores, and fitting and scoring it, against
  scikit-learn's isolation forest on windows of ten moments and on single moments.
"""

import numpy as np
import torch
from sklearn.ensemble import IsolationForest

from side_by_side import alternate, line
from stackwise.build.stackvae_g import StackVAEG, StackVAEGDetector
from stackwise.tasks.anomalies.detectors.windows import windows_of

WINDOW = 100
CHANNELS = {8: (256, 5), 38: (64, 5), 128: (32, 3)}
"""Channels -> windows at once, repeats."""


def network(channels: int, **more) -> StackVAEG:
    torch.manual_seed(0)
    return StackVAEG(channels=channels, window=WINDOW, **more).eval()


@torch.no_grad()
def scoring(channels: int, rows: int, repeats: int) -> None:
    """One pass for all channels, against a pass a channel."""
    stack = network(channels, gamma=0.0, graph_weight=0.0, n_samples=0)
    single = network(1, gamma=0.0, graph_weight=0.0, n_samples=0)
    shared = {k: v for k, v in stack.state_dict().items() if not k.startswith(("graph", "mean"))}
    single.load_state_dict(shared, strict=False)
    x = torch.randn(rows, channels, WINDOW)
    looped = torch.cat([single.last_errors(x[:, i : i + 1]) for i in range(channels)], dim=1)
    torch.testing.assert_close(stack.last_errors(x), looped, rtol=1e-4, atol=1e-5)

    def loop() -> None:
        with torch.no_grad():
            for place in range(channels):
                single.last_errors(x[:, place : place + 1])

    def ours() -> None:
        with torch.no_grad():
            stack.last_errors(x)

    line(f"scoring {rows} windows of {channels} channels", *alternate(ours, loop, repeats),
         "a loop over channels", "s", "float32", 1,
         "so few channels win nothing by one large product, which leaves the cache")  # fmt: skip


def step(channels: int = 38, rows: int = 64) -> None:
    """A training step: shared weights, all channels at once, against one after another."""
    stack, x = network(channels).train(), torch.randn(rows, channels, WINDOW)
    noise = [torch.randn(rows, *shape) for shape in stack.noise_shapes]
    optimizer = torch.optim.Adam(stack.parameters(), lr=1e-3, fused=True)

    def ours() -> None:
        stack.losses(x, *noise)["loss"].backward()
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)

    def loop() -> None:
        graph = stack.graph()
        features = torch.cat(
            [stack.feature(stack.encoder(x[:, i : i + 1])) for i in range(channels)], dim=1
        )
        mixed = 0.5 * features + 0.5 * (graph @ features)
        loss = (x - graph @ x).square().sum((1, 2)).mean()
        for i in range(channels):
            own = mixed[:, i]
            mu, logvar = stack.z_mean(own), stack.z_logvar(own)
            hidden = stack.decoder(mu + torch.exp(logvar / 2) * noise[0][:, i])
            x_hat = stack.x_mean(hidden) + torch.exp(stack.x_logvar(hidden) / 2) * noise[1][:, i]
            loss = loss + (x_hat - x[:, i]).square().sum(1).mean()
            loss = loss - 0.5 * (1 + logvar - mu.square() - logvar.exp()).sum(1).mean()
        loss.backward()
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)

    line(f"a training step, {rows} windows of {channels} channels", *alternate(ours, loop, 5),
         "a loop over channels", "s", "float32", 1)  # fmt: skip


def epoch() -> None:
    """An epoch through the estimator and its loop, against a bare one."""
    values = np.random.default_rng(0).normal(size=(740, 9))
    sizes = {"window": WINDOW, "neighbours": 3, "threads": 1}
    given = torch.from_numpy(values).float()
    given = (given - given.mean(0)) / given.std(0, unbiased=False)
    view = windows_of(given, WINDOW)

    def ours() -> None:
        StackVAEGDetector(**sizes, max_epochs=3).fit(values)

    def bare() -> None:
        model = network(9, neighbours=3).train()
        optimizer = torch.optim.Adam(model.parameters(), lr=1e-3, weight_decay=1e-3, fused=True)
        for _ in range(3):
            order = torch.randperm(len(view))
            for start in range(0, len(view), 64):
                x = view[order[start : start + 64]]
                noise = [torch.randn(len(x), *shape) for shape in model.noise_shapes]
                model.losses(x, *noise)["loss"].backward()
                torch.nn.utils.clip_grad_norm_(model.parameters(), 12.0)
                optimizer.step()
                optimizer.zero_grad(set_to_none=True)
        with torch.no_grad():
            model.eval().last_errors(view)

    line("fit of 3 epochs on 740 moments of 9 channels", *alternate(ours, bare, 3),
         "a bare loop", "s", "float32", 1,
         "thresholds by peaks over threshold for each channel, checks, and a record")  # fmt: skip


def forest() -> None:
    """A series of 38 channels, from the array to its scores."""
    rng = np.random.default_rng(0)
    normal, new = rng.normal(size=(1_000, 38)), rng.normal(size=(2_000, 38))
    model = StackVAEGDetector(window=WINDOW, max_epochs=1, threads=1).fit(normal)
    for moments in (1, 10):

        def points(values: np.ndarray, window: int = moments) -> np.ndarray:
            view = np.lib.stride_tricks.sliding_window_view(values, window, axis=0)
            return view.reshape(len(view), -1)

        trees = IsolationForest(random_state=0).fit(points(normal))
        line(f"scoring 2,000 moments of 38 channels, forest on {moments} moment(s)",
             *alternate(lambda: model.score_samples(new),
                        lambda made=trees, of=points: made.score_samples(of(new)), 3),
             "scikit-learn's IsolationForest", "s", "float32", 1,
             "a window of a hundred moments goes through an autoencoder for each channel: "
             "4 million multiply-adds a moment, where a forest compares some numbers")  # fmt: skip


def main() -> None:
    torch.set_num_threads(1)
    for channels, (rows, repeats) in CHANNELS.items():
        scoring(channels, rows, repeats)
    step()
    epoch()
    forest()


if __name__ == "__main__":
    main()
