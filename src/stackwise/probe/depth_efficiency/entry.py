"""The registered entry of the probe: every measurement over a set of prompts, in one call."""

import time
from typing import Annotated, Any, Literal

import pandas as pd
import torch

from stackwise.catalog import Knob, probe
from stackwise.errors import DataError, KnobError, ModelError, nearest
from stackwise.findings import Findings
from stackwise.layers.evaluating import evaluating
from stackwise.probe.depth_efficiency.clean_run import CleanRun, Example
from stackwise.probe.depth_efficiency.figures import bars, heat, lens_figure, lines
from stackwise.probe.depth_efficiency.measurements.contribution import Contributions
from stackwise.probe.depth_efficiency.measurements.lens import Lens
from stackwise.probe.depth_efficiency.measurements.local import local
from stackwise.probe.depth_efficiency.measurements.skip import (
    SHORTEST,
    Effects,
    check_future,
    skip,
    splits_of,
)
from stackwise.probe.depth_efficiency.prompts import (
    default_prompts,
    examples_of,
    learner_examples,
    opened,
)
from stackwise.probe.depth_efficiency.summary import summarised
from stackwise.probe.depth_efficiency.tally import Tally
from stackwise.stack import Stack
from stackwise.training.session import current_session

PROBES = ("contribution", "cosine", "skip", "future", "local", "lens")


@probe(
    "depth-efficiency",
    title="What each block of a network is used for",
    paper="2505.13898",
    cost="a few runs of the model for each of its blocks; no training",
    takes=("decoder", "vision"),
    reads="source",
    presets={
        "quick": {"prompts": 4, "splits": 1, "max_tokens": 64},
        "best": {"prompts": 50},
    },
)
def depth_efficiency(
    model: Any,
    data: Any = None,
    *,
    probes: Annotated[
        list[str] | None, Knob("which measurements; none takes all that the model allows")
    ] = None,
    prompts: Annotated[int, Knob("examples that are measured, the first ones", ge=1)] = 20,
    splits: Annotated[int, Knob("places at which a prompt is cut into past and future", ge=1)] = 4,
    max_tokens: Annotated[int, Knob("tokens of a prompt that are read", ge=1)] = 256,
    protect: Annotated[int, Knob("first tokens left alone and out of means", ge=0)] = 1,
    reduce: Annotated[
        Literal["max", "mean"], Knob("how effects are summed up over tokens and prompts")
    ] = "max",
    part: Annotated[
        Literal["layer", "attention", "mlp"], Knob("what is skipped or taken away")
    ] = "layer",
    blocks: Annotated[str | None, Knob("dotted name of the module that holds the blocks")] = None,
    side: Annotated[
        Literal["encoder", "decoder"] | None, Knob("side of an encoder-decoder model")
    ] = None,
    random_state: Annotated[int, Knob("seed of the splits and of default prompts", ge=0)] = 0,
    tokenizer: Any = None,
) -> Findings:
    """Measure how much of its depth a model uses: what blocks write, and what is read later.

    The model is looked at in evaluation mode, in the precision that it has (a folder is loaded in
    float32), and is left as it was.

    Args:
        model: a module that `Stack.of` reads, a fitted learner, or a model folder.
        data: prompts: a text file (paragraphs, or lines where there are none), strings, token
            ids, or batches of the model's arguments. None reads English prose that comes with
            Python, the sections of its language reference.
        probes: of contribution, cosine, skip, future, local, lens.
        tokenizer: of the model; found by itself where the model came from a folder with one.

    Returns:
        Findings with the tables `norms`, `contribution`, `cosine`, `skip` (row: skipped block,
        column: changed block), `skip_output`, `future`, `future_output`, `local`, `local_future`
        and `lens`, a figure for each, and a summary of single numbers and sentences.

    Raises:
        ModelError: no residual stack, or a measurement that was asked for does not fit it (the
            future form of a model that is not causal, a part of a block that is no sum).
        DataError: no prompt, text without a tokenizer, or prompts too short to split.
        KnobError: an unknown measurement.
    """
    wanted = _checked(probes)
    network, tokenizer = opened(model, tokenizer)
    stack = Stack.of(network, blocks=blocks, side=side)
    if data is None and hasattr(model, "network_"):
        raise DataError("a fitted learner is probed with rows of its table: give data")
    if data is None:
        data = default_prompts(prompts, random_state)
    if hasattr(model, "contract_"):
        examples = learner_examples(model, data)
    else:
        examples = examples_of(network, data, tokenizer, prompts=prompts, max_tokens=max_tokens)
    collected = _Collected(wanted, probes is not None, splits, protect, part, random_state)
    session, started = current_session(), time.perf_counter()
    with evaluating(network):
        for place, example in enumerate(examples):
            collected.add(stack, example)
            if session.on_event is not None:
                seconds = time.perf_counter() - started
                left = seconds / (place + 1) * (len(examples) - place - 1)
                session.on_event(
                    {
                        "phase": "prompts", "epoch": place + 1, "max_epochs": len(examples),
                        "step": place + 1, "steps": len(examples), "metrics": {},
                        "seconds": seconds, "seconds_left": left,
                    }
                )  # fmt: skip
    return collected.findings(reduce)


def _checked(probes: Any) -> tuple[str, ...]:
    if probes is None:
        return PROBES
    for name in probes:
        if name not in PROBES:
            raise KnobError(f"there is no measurement {name!r}.{nearest(str(name), PROBES)}")
    if not probes:
        raise KnobError(f"probes is empty; give some of {', '.join(PROBES)}")
    return tuple(probes)


class _Collected:
    """The running sums of every measurement over the prompts."""

    def __init__(
        self,
        wanted: tuple[str, ...],
        strict: bool,
        splits: int,
        protect: int,
        part: Any,
        seed: int,
    ) -> None:
        self.wanted, self.strict = wanted, strict
        self.splits, self.protect, self.part = splits, protect, part
        self.generator = torch.Generator().manual_seed(seed)
        self.contributions, self.lens = Contributions(), Lens()
        self.effects = {name: (Tally(), Tally()) for name in ("skip", "future")}
        self.direct = {"local": Tally(), "local_future": Tally()}
        self.notes: list[str] = []
        self.left_out: set[str] = set()
        self.depth = self.prompts = self.tokens = self.short = self.longest = 0

    def add(self, stack: Stack, example: Example) -> None:
        """Measure one example."""
        run = CleanRun(stack, example)
        self.depth = run.depth
        self.prompts += run.batch
        self.tokens += run.batch * run.tokens
        self.longest = max(self.longest, run.tokens)
        if {"contribution", "cosine"} & set(self.wanted):
            self.contributions.add(run, self.protect)
        if "skip" in self.wanted:
            self._effects("skip", skip(run, protect=self.protect, part=self.part))
        if "local" in self.wanted:
            found = local(run, protect=self.protect, part=self.part)
            self.direct["local"].add(_splits_last(found))
        if {"future", "local"} & set(self.wanted):
            self._add_future(run)
        if "lens" in self.wanted:
            self._unless_refused(lambda: self.lens.add(run, self.protect), "lens")
        if run.kind == "values":
            self._note("the output has no class probabilities: its change is relative")

    def _add_future(self, run: CleanRun) -> None:
        if not self._unless_refused(lambda: check_future(run), "future"):
            return
        if run.tokens < SHORTEST:
            self.short += 1
            return
        splits = splits_of(run.tokens, self.splits, self.generator)
        if "future" in self.wanted:
            self._effects("future", skip(run, splits, protect=self.protect, part=self.part))
        if "local" in self.wanted:
            found = local(run, splits, protect=self.protect, part=self.part)
            self.direct["local_future"].add(_splits_last(found))

    def _effects(self, name: str, effects: Effects) -> None:
        later, output = self.effects[name]
        later.add(_splits_last(effects.relative))
        output.add(_splits_last(effects.output))

    def _unless_refused(self, action: Any, name: str) -> bool:
        """Run it; where the model does not allow it, raise if it was asked for by name."""
        try:
            action()
        except ModelError as error:
            if self.strict and name in self.wanted:
                raise
            if name not in self.left_out:
                self.left_out.add(name)
                self._note(f"left out {name}: {error}")
            return False
        return True

    def _note(self, text: str) -> None:
        if text not in self.notes:
            self.notes.append(text)

    def findings(self, reduce: str) -> Findings:
        """Tables, figures and the summary."""
        tables: dict[str, pd.DataFrame] = {}
        if not self.contributions.empty:
            found = self.contributions.tables()
            tables["norms"] = found["norms"]
            tables |= {
                name: found[name] for name in ("contribution", "cosine") if name in self.wanted
            }
            if self.contributions.refused:
                self._note(self.contributions.refused)
        for name, (later, output) in self.effects.items():
            if not later.empty:
                tables[name] = _square(later.reduced(reduce))
                tables[f"{name}_output"] = _column(output.reduced(reduce))
        for name, direct in self.direct.items():
            if not direct.empty:
                tables[name] = _square(direct.reduced(reduce))
        if not self.lens.empty:
            tables["lens"] = self.lens.table()
        self._complain_of_short_prompts(tables)
        summary: dict[str, Any] = {
            "depth": self.depth,
            "prompts": self.prompts,
            "tokens": self.tokens,
        }
        summary |= summarised(tables)
        summary["notes"] = self.notes
        return Findings(tables, _figures(tables), summary)

    def _complain_of_short_prompts(self, tables: dict[str, pd.DataFrame]) -> None:
        if not self.short:
            return
        if self.strict and "future" in self.wanted and "future" not in tables:
            raise DataError(
                f"the prompt has {self.longest} tokens; splits need at least {SHORTEST}"
            )
        self._note(
            f"{self.short} prompts of fewer than {SHORTEST} tokens have no future to measure"
        )


def _splits_last(values: torch.Tensor) -> torch.Tensor:
    """(K, ..., tokens) to (..., K * tokens): a tally takes its mean and maximum over both."""
    return values.movedim(0, -2).flatten(-2)


def _square(values: torch.Tensor) -> pd.DataFrame:
    frame = pd.DataFrame(values.numpy())
    return frame.rename_axis(index="skipped", columns="changed")


def _column(values: torch.Tensor) -> pd.DataFrame:
    return pd.DataFrame({"output": values.numpy()}).rename_axis("skipped")


def _figures(tables: dict[str, pd.DataFrame]) -> dict[str, Any]:
    figures: dict[str, Any] = {}
    if "contribution" in tables:
        figures["contribution"] = lines(
            tables["contribution"], "What blocks write, relative to the stream", "mean ratio"
        )
    if "cosine" in tables:
        shown = tables["cosine"].drop(columns="stream")
        figures["cosine"] = lines(shown, "New, erased or strengthened", "mean cosine", zero=True)
    titles = {
        "skip": "Skipping a block: change of later blocks",
        "future": "Skipping a block: change at later tokens",
        "local": "Direct effect on later blocks",
        "local_future": "Direct effect at later tokens",
    }
    for name, title in titles.items():
        if name in tables:
            figures[name] = heat(tables[name], title, "skipped block", "changed block")
    outputs = {
        words: tables[name]["output"]
        for name, words in (("skip_output", "all tokens"), ("future_output", "later tokens"))
        if name in tables
    }
    if outputs:
        figures["output"] = bars(
            pd.DataFrame(outputs), "Skipping a block: change of the output", "change"
        )
    if "lens" in tables:
        figures["lens"] = lens_figure(tables["lens"])
    return figures
