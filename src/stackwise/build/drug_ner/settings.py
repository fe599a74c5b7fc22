"""What the knobs of a tagger mean together, and which do not go together."""

from dataclasses import dataclass
from typing import Any, Literal

from stackwise.build.drug_ner.networks import ACTIVATIONS, Activation, Arch
from stackwise.build.drug_ner.representation import Distance
from stackwise.errors import KnobError

Representation = Literal["sequence", "window"]
PRETRAINED = ("dbn", "sae")
USUAL_WIDTH = {"lstm": 128, "mlp": 256, "dbn": 256, "sae": 256}
USUAL_LAYERS = {"lstm": 1, "mlp": 1, "dbn": 2, "sae": 2}


@dataclass(frozen=True)
class Settings:
    """The knobs, where none is left open.

    Attributes:
        widths: units of each layer; of pretrained ones each has half of what is below it.
    """

    arch: Arch
    representation: Representation
    distance: Distance
    widths: list[int]
    activation: Activation

    @property
    def recurrent(self) -> bool:
        """Whether the layers are an LSTM's."""
        return self.arch == "lstm"


def settled(knobs: Any) -> Settings:
    """What a tagger's knobs mean.

    Raises:
        KnobError: two do not go together, or one says nothing beside another.
    """
    arch: Arch = knobs.arch
    recurrent = arch == "lstm"
    usual: Representation = "sequence" if recurrent else "window"
    representation: Representation = (
        usual if knobs.representation == "auto" else knobs.representation
    )
    in_windows = representation == "window"
    distance: Distance = knobs.distance
    if knobs.distance == "auto":
        distance = "none" if in_windows else "elementwise"
    if knobs.bidirectional and not recurrent:
        raise KnobError(f"bidirectional is an LSTM's, and arch is {arch}; leave it out")
    for name, usual_value in (("crf", False), ("scheme", "in-out")):
        if in_windows and getattr(knobs, name) != usual_value:
            raise KnobError(
                f"{name}={getattr(knobs, name)} is of whole sentences, and the representation is "
                "window; set representation=sequence"
            )
    if knobs.select != "all" and not in_windows:
        raise KnobError(
            f"select={knobs.select} chooses windows, and the representation is sequence; set "
            "representation=window"
        )
    if knobs.crf and knobs.class_weight not in ("auto", "none"):
        raise KnobError(
            f"class_weight={knobs.class_weight} weighs words, and crf=True learns whole sentences; "
            "leave it out"
        )
    activation: Activation = knobs.activation or ("relu" if arch == "mlp" else "sigmoid")
    if knobs.activation is not None:
        if recurrent:
            raise KnobError("activation is of plain layers, and an LSTM has its own; leave it out")
        if arch in PRETRAINED and knobs.activation != "sigmoid":
            raise KnobError(
                f"activation={knobs.activation} does not go with arch={arch}, whose layers learn "
                "as units that are on with a probability: sigmoid"
            )
    assert activation in ACTIVATIONS
    width, layers = knobs.hidden or USUAL_WIDTH[arch], knobs.layers or USUAL_LAYERS[arch]
    widths = [width if recurrent else max(width >> layer, 1) for layer in range(layers)]
    return Settings(arch, representation, distance, widths, activation)
