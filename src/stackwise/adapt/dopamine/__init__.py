"""Switch a frozen network to a new mode: one threshold and one gain for each neuron, and no weight.

A mode stands on the activations. Where a layer of width n has z before its activation phi,

    soft      h = g * sigmoid(s (z - tau)) * phi(z)              g, tau in R^n; s: the sharpness
    hard      h = g * 1[z > tau] * phi(z)

tau decides whether a neuron takes part and g how much. The weights are frozen, so that many modes
share one base, each a file of 2 n numbers a layer; a mode that is off changes nothing; and which
neurons it uses can be read off (`attribute`). In the hard form a neuron that never fires can be cut
out of the network (`prune_silent`), which makes it smaller and faster.

Source: "Brain Modes, Not Brains: Activation-Gated PEFT via Threshold-and-Gain Tuning" (arXiv
2602.11726). Of the paper its abstract and its introduction could be read, and no code is published.
They say: frozen weights, a threshold and a gain for each neuron, a sigmoid gate on the
pre-activation that may be hardened, MNIST upright and turned by 45 degrees, frozen < gate < LoRA.
The rest is our reading, and this differs or may differ from the paper:

- where the gate starts: tau = 0, g = 1 (`init="zero"`), at most 0.2785 |g| / s from a ReLU network
  for each unit; `open` starts at a tau below all that was seen, a number at that quantile; the
  default is `zero` for activations that are 0 below 0 and a low quantile for GELU and SiLU, which a
  gate at 0 would cut;
- the sharpness: 10, or rising from `anneal_from` to it, which brings soft and hard together;
- a sparsity term, lambda times the mean of the gates, summed over layers; off by default;
- soft or hard in the end: hard where the validation loss rises by no more than `tolerance`. For a
  threshold above 0 the two do not meet however sharp the gate is: at z = tau the gap is g tau / 2;
- in an MLP of the form silu(a) * b the gate reads a, and the layer after it takes the product;
- thresholds alone, gains alone (IA3 on that activation), biases alone (BitFit on that layer: z + d,
  which moves the output where a threshold does not), each by `learn`;
- thresholds that depend on the input, tau + U tanh(V z), are named as future work there and
  experimental here (`context`, their rank; over pictures z is averaged first, so that they are one
  for a picture).

Thresholds cannot be put into weights; gains and biases can where what reads the units is known,
which is measured and not guessed (`wiring`).
"""

from stackwise.adapt.dopamine.bank import Modes
from stackwise.adapt.dopamine.entry import dopamine
from stackwise.adapt.dopamine.gate import Numbers, gated
from stackwise.adapt.dopamine.mode import TauGate
from stackwise.adapt.dopamine.neurons import attribute
from stackwise.adapt.dopamine.pruning import prune_silent
from stackwise.adapt.dopamine.sites import Site
from stackwise.adapt.dopamine.wiring import find_sites

__all__ = [
    "Modes", "Numbers", "Site", "TauGate", "attribute", "dopamine", "find_sites", "gated",
    "prune_silent",
]  # fmt: skip
