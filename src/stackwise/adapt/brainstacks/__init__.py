"""Add one skill after another to a frozen network, each as a stack of small experts of its own.

Beside every linear layer W of the blocks stand low-rank experts, of which a token takes K of N:

    out = W x + sum over domains w_d sum over rounds delta(x),   delta(x) = s sum_e g_e(x) B_e A_e x

A domain is learned in rounds, each a fresh stack on top of the frozen ones (residual boosting); its
output is kept out of the directions that earlier domains use (delta <- delta - delta V V^T); and a
router looks at what the base makes of a prompt and weighs the domains. A domain is a small file
beside the base: put on, taken off, and sent alone.

Source: arXiv 2604.01152, and the authors' code, of whose layer and projector recorded outputs are
held in a test. Where the two differ, or are wrong, this is what was chosen:

- the projection is folded into B when a round is done (`null_space=fold`). The release projects in
  training alone, and AdamW leaves the space that is then thought closed (`train-only`);
- directions come from the earlier domains' own samples, as the text says; the release takes the new
  domain's (`null_from=new`). Each domain keeps its directions, so that its data are not needed;
- the loss of balance has a gradient; the release builds it from detached numbers and drops it;
- frozen stacks pass gradients on to earlier layers, and are not noisy in training;
- a round that made the held-out loss worse is dropped, also the first;
- that a domain is not forgotten in isolation holds for the first domain and for prefixes (all that
  were on when it was learned): a later one alone lacks what it was learned on top of.

Not here: the second partitioned network (a transformer of its own for each domain) and GRPO, whose
constants the paper does not give. DPO is (`dpo_loss`).
"""

from stackwise.adapt.brainstacks.collection import Brainstacks
from stackwise.adapt.brainstacks.combinations import discover
from stackwise.adapt.brainstacks.delta import Domain, ExpertDelta, LearnedOverOthers
from stackwise.adapt.brainstacks.entry import brainstacks
from stackwise.adapt.brainstacks.experts import Experts, ExpertStack, gates, load_balance, mixture
from stackwise.adapt.brainstacks.forgetting import forgetting, forgetting_matrix
from stackwise.adapt.brainstacks.places import adapted_layers
from stackwise.adapt.brainstacks.preference import dpo_loss
from stackwise.adapt.brainstacks.router import MetaRouter
from stackwise.adapt.brainstacks.routing import RouterDelta, router_loss
from stackwise.adapt.brainstacks.switch import Switch, active_off

__all__ = [
    "Brainstacks", "Domain", "ExpertDelta", "ExpertStack", "Experts", "LearnedOverOthers",
    "MetaRouter", "RouterDelta", "Switch", "active_off", "adapted_layers", "brainstacks",
    "discover", "dpo_loss", "forgetting", "forgetting_matrix", "gates", "load_balance", "mixture",
    "router_loss",
]  # fmt: skip
