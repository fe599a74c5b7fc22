"""StackVAE-G: one small autoencoder, stacked once a channel, and the graph of the channels.

A window x of n channels and w moments is n blocks, x_i of w numbers each. All channels share one
encoder f and one decoder g, so that the model is a stack of n equal units and hardly grows with n.
Between them the channels talk once, over a sparse graph A~ that is learned beside:

    V = f(x)                                              (n, d) a feature of each channel
    V' = (1 - gamma) V + gamma A~ V                       mixed with its neighbours'
    z ~ N(mu(V'), exp(logvar(V')))                        prior N(0, 1)
    x_hat = m(g(z)) + exp(s(g(z)) / 2) eps                written back
    loss = |x_hat - x|^2 + KL + lambda |x - A~ x|^2       the last learns the graph

Features, posterior and decoder are affine maps with ReLU between. What is strange at moment t is
e_i = (m_i(t) - x_i(t))^2 in the window that ends there; its sum over channels is the score. The
graph says what an alarm means: a channel alone is a sensor's fault, with its neighbours the
system's.

Source: arXiv 2105.08397, and the authors' code (which decides where the text is silent; parity in
tests/build/test_stackvae_g_parity.py).

What differs: the mean of the posterior's draws at scoring is one draw of that mean, the same for
every window, so that a stream and a series get the same scores; scaling is learned from the normal
moments alone (the code scales test data by their own extremes); a last short batch is learned from
too; and a threshold comes from normal scores, not from the best F1 on test labels. Windows never
cross a gap. `likelihood=gaussian` makes the learned variance a likelihood, which the code's loss
only pushes to nothing.
"""

from stackwise.build.stackvae_g.diagnosis import Explanation
from stackwise.build.stackvae_g.graph import ChannelGraph
from stackwise.build.stackvae_g.learner import StackVAEGDetector
from stackwise.build.stackvae_g.network import StackVAEG
from stackwise.build.stackvae_g.probe import channel_graph

__all__ = ["ChannelGraph", "Explanation", "StackVAEG", "StackVAEGDetector", "channel_graph"]
