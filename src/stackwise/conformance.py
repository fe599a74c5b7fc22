"""What every method is held to, whoever wrote it.

    from stackwise.conformance import check
    check("my-method")          # raises AssertionError with the sentence of the first failure

The checks read the card and run the method as its preset `quick` says, on small inputs: a table
for learners; a fitted learner (the method's own where it has one), a language model and a vision
model for transforms and probes, which must take at least one of them. They are this library's own
tests too.
"""

import atexit
import copy
import functools
import inspect
import math
import re
import shutil
import tempfile
import warnings
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch

from stackwise.catalog import VERBS, Card, Entry, card, preset_values
from stackwise.errors import DataError, ModelError
from stackwise.files import read_tensors, write_tensors
from stackwise.findings import Findings

DATA_ONLY = {
    ".json", ".jsonl", ".safetensors", ".skops", ".ubj", ".txt", ".csv", ".png", ".parquet",
    ".jinja",
}  # fmt: skip
"""Endings of files that hold data and run nothing when they are read."""


def check(slug: str) -> list[str]:
    """Hold a method to every check and return their names.

    Raises:
        AssertionError: the first check that fails. UnknownName: there is no such method.
    """
    of = card(slug)
    for name, one in CHECKS.items():
        with tempfile.TemporaryDirectory(prefix=f"stackwise-{name}-") as folder:
            one(of, Path(folder))
    return list(CHECKS)


def card_is_complete(of: Card, folder: Path) -> None:
    """The card says what the method is, and its knobs and presets are valid."""
    _hold(re.fullmatch(r"[a-z][a-z0-9]*(-[a-z0-9]+)*", of.slug), f"{of.slug!r} is no slug")
    _hold(of.verb in {*VERBS, "baseline"}, f"{of.slug}: there is no verb {of.verb!r}")
    _hold(len(of.title) > 3, f"{of.slug} has no title")
    _hold(of.summary.endswith("."), f"{of.slug}: its docstring begins with no whole sentence")
    _hold(of.entries, f"{of.slug} has no entry point")
    _hold(
        of.paper is None or re.fullmatch(r"\d{4}\.\d{4,5}", of.paper),
        f"{of.slug}: {of.paper!r} is no arXiv id",
    )
    for entry in of.entries:
        target = entry.load()
        _hold(target.__doc__, f"{entry.name} has no docstring")
        if entry.kind == "learner":
            _hold("random_state" in entry.knobs, f"{entry.name} has no knob random_state")
            _hold("max_epochs" in entry.knobs, f"{entry.name} has no knob max_epochs")
            taken = set(inspect.signature(target.fit).parameters)
            # what a run hands to every learner: the parts of a table, or the task
            for name in ("validation", "metric") if "table" in of.tasks else ("task",):
                _hold(name in taken, f"{entry.name}.fit takes no {name}")
        for name, spec in entry.knobs.items():
            _hold(len(spec.knob.help) > 3, f"{entry.name}: the knob {name} says not what it is")
            if not spec.required:
                spec.check(spec.default)
        for preset in of.presets:
            preset_values(of, preset, entry)
    _hold("quick" in of.presets or of.verb != "build", f"{of.slug} has no preset quick")


def same_seed_same_result(of: Card, folder: Path) -> None:
    """The same seed gives the same numbers, bit for bit."""
    for entry in of.entries:
        first, second = _run(of, entry), _run(of, entry)
        _same(result_state(first.result), result_state(second.result), f"{entry.name}, run twice")


def input_is_left_alone(of: Card, folder: Path) -> None:
    """A transform and a probe leave the model as it was."""
    for entry in of.entries:
        if entry.kind != "learner":
            done = _run(of, entry)
            _same(done.before, model_state(done.model), f"the model given to {entry.name}")


def survives_a_round_trip(of: Card, folder: Path) -> None:
    """What comes out can be written, read back and is the same; the files are data only."""
    from stackwise.models import load_learner, open_model, save_model

    for entry in of.entries:
        result = _run(of, entry).result
        place = folder / entry.name
        if isinstance(result, Findings):
            result.save(place)
            again: Any = Findings.load(place)
        elif entry.kind == "learner" or hasattr(result, "predict"):
            save_model(result, place)
            again = load_learner(place)
        elif hasattr(result, "save_pretrained"):
            save_model(result, place)
            again = open_model(place)
        else:  # a bare module: its weights are what is kept, and made other before they are read
            write_tensors(place / "model.safetensors", result.state_dict())
            again = copy.deepcopy(result)
            for parameter in again.parameters():
                torch.nn.init.constant_(parameter, math.pi)
            again.load_state_dict(read_tensors(place / "model.safetensors"))
        digits = 1e-12 if isinstance(result, Findings) else 0.0  # tables are kept as text
        what = f"{entry.name}, written and read back"
        _same(result_state(result), result_state(again), what, digits)
        foreign = sorted(
            path.name
            for path in place.rglob("*")
            if path.is_file() and path.suffix not in DATA_ONLY
        )
        _hold(not foreign, f"{entry.name} writes {foreign}, which are no data files")


def refuses_bad_input(of: Card, folder: Path) -> None:
    """Bad input is an error of the caller's, a ValueError or TypeError, never a number."""
    for entry in of.entries:
        target, name = entry.load(), entry.name
        _refused(f"{name} with an unknown knob", target, no_such_knob=1)
        if entry.kind != "learner":
            _refused(f"{name} on an object that is no model", target, object(), [])
            continue
        knobs = quick_knobs(of, entry)
        fresh = target(**knobs)
        if "table" not in of.tasks:
            task = small_task(of.tasks[0])
            _refused(f"{name} with max_epochs=-1", target(**knobs | {"max_epochs": -1}).fit, task)
            _refused(f"{name}, kept before it is fitted", fresh.save, folder / "unfitted")
            continue
        X, y = table_rows(entry)
        _refused(f"{name} with max_epochs=-1", target(**knobs | {"max_epochs": -1}).fit, X, y)
        _refused(f"{name}, asked before it is fitted", fresh.predict, X)
        _refused(f"{name} on no rows", fresh.fit, X[:0], y[:0])
        _refused(f"{name} on a y of another length", fresh.fit, X, y[:-1])
        if entry.problem != "classification":
            infinite = np.where(np.arange(len(y)) == 0, np.inf, y)
            _refused(f"{name} on an infinite y", fresh.fit, X, infinite)
        fitted = _run(of, entry).result
        _refused(f"{name} on a table without a column", fitted.predict, X.drop(columns="size"))


CHECKS: dict[str, Callable[[Card, Path], None]] = {
    one.__name__: one
    for one in (
        card_is_complete,
        same_seed_same_result,
        input_is_left_alone,
        survives_a_round_trip,
        refuses_bad_input,
    )
}
"""Every check, by name: (card, an empty folder) -> None."""


def table_rows(entry: Entry, rows: int = 120, seed: int = 0) -> tuple[pd.DataFrame, np.ndarray]:
    """A small table with a number, a number with gaps and a category, and its target."""
    generator = np.random.default_rng(seed)
    size, weight = generator.normal(size=(2, rows))
    colour = generator.choice(["red", "green", "blue"], rows)
    target = 2 * size + weight + (colour == "red") + 0.1 * generator.normal(size=rows)
    weight[generator.random(rows) < 0.1] = np.nan
    X = pd.DataFrame({"size": size, "weight": weight, "colour": colour})
    if entry.problem == "classification":
        return X, np.where(target > 0, "high", "low")
    return X, target


@functools.cache
def small_task(name: str) -> Any:
    """A few sentences, chats or questions as the task `name`."""
    from stackwise.tasks import open_task

    words = ("red", "green", "blue", "small", "large")
    pairs = [(one, two) for one in words for two in words]
    if name == "text":
        lines = [f"the {one} box is beside the {two} one, said the {two} fox" for one, two in pairs]
        return open_task("text", lines, {"length": 16, "vocabulary": 300})
    if name == "instructions":
        chats = [
            {"prompt": f"say {one} {two}", "response": f"{one} {two}", "phase": str(len(one) % 2)}
            for one, two in pairs
        ]
        return open_task("instructions", chats, {})
    questions = [
        {"question": f"which is {one}?", "choices": sorted([one, two]), "answer": one}
        for one, two in pairs
        if one != two
    ]
    return open_task("choices", questions, {})


@functools.cache
def small_language_model() -> str:
    """A folder with a small decoder of random weights and its tokenizer, for as long as we run."""
    from stackwise.models import save_model
    from stackwise.tasks.language.decoder import new_decoder

    folder = tempfile.mkdtemp(prefix="stackwise-model-")
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    tokenizer = small_task("text").tokenizer
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = new_decoder(len(tokenizer), layers=4, width=16, heads=2, length=256)
    save_model(model, Path(folder))
    tokenizer.save_pretrained(folder)
    return folder


def quick_knobs(of: Card, entry: Entry) -> dict[str, Any]:
    """The preset `quick`, with two epochs and one thread where the method has such knobs, and a
    small model where a learner begins with one.
    """
    less: dict[str, Any] = {"max_epochs": 2, "threads": 1, "random_state": 0}
    if "model" in entry.knobs and entry.kind == "learner":
        less["model"] = small_language_model()
    given = preset_values(of, "quick", entry)
    return given | {name: value for name, value in less.items() if name in entry.knobs}


def language_inputs(of: Card) -> Iterator[tuple[str, Any, Any]]:
    """A small language model with the task that a transform or a probe names, if it names one."""
    from stackwise.models import open_model

    for name in of.tasks:
        if name != "table":
            yield (
                f"a language model and {name}",
                open_model(small_language_model()),
                small_task(name),
            )


def model_inputs() -> Iterator[tuple[str, Any, Any]]:
    """What a transform or a probe is tried on: a name, a model and data for it."""
    from transformers import (
        LlamaConfig,
        LlamaForCausalLM,
        ViTConfig,
        ViTForImageClassification,
    )

    regressor = card("mlp").entry("learner", "regression")
    X, y = table_rows(regressor, rows=1500)
    learner = regressor.load()(max_epochs=1, width=16, random_state=0, threads=1)
    yield "a fitted MLP", learner.fit(X, y), (X, y)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        decoder = LlamaForCausalLM(
            LlamaConfig(
                vocab_size=64, hidden_size=16, intermediate_size=32, num_hidden_layers=4,
                num_attention_heads=2,
            )
        ).eval()  # fmt: skip
        ids = [torch.randint(0, 64, (2, 24)) for _ in range(16)]
        yield "a language model", decoder, [{"input_ids": i, "labels": i} for i in ids]
        patches = ViTConfig(
            image_size=16, patch_size=8, hidden_size=16, intermediate_size=32,
            num_hidden_layers=4, num_attention_heads=2,
        )  # fmt: skip
        patches.num_labels = 3
        vision = ViTForImageClassification(patches).eval()
        images = [
            {"pixel_values": torch.randn(2, 3, 16, 16), "labels": torch.randint(0, 3, (2,))}
            for _ in range(16)
        ]
    yield "a vision model", vision, images


def model_state(model: Any) -> dict[str, np.ndarray]:
    """The weights of a module or of a fitted network, copied."""
    network = getattr(model, "network_", model)
    return {name: value.detach().numpy().copy() for name, value in network.state_dict().items()}


def result_state(result: Any) -> dict[str, np.ndarray]:
    """The numbers that stand for a result: tables, predictions or weights."""
    if isinstance(result, Findings):
        return {name: table.to_numpy(dtype=float) for name, table in result.tables.items()}
    if hasattr(result, "token_log_probabilities"):
        rows = torch.arange(40).view(2, 20)
        return {"log_probability": result.token_log_probabilities(rows)[0].numpy()}
    if hasattr(result, "predict"):
        X, _ = table_rows(Entry("learner", ""), seed=1)
        probability = getattr(result, "predict_proba", None)
        return {"prediction": np.asarray(probability(X) if probability else result.predict(X))}
    return model_state(result)


class _Done:
    """A method's result, and the model that it was given."""

    def __init__(self, result: Any, model: Any, before: dict[str, np.ndarray]) -> None:
        self.result, self.model, self.before = result, model, before


def own_learners(of: Card) -> Iterator[tuple[str, Any, Any]]:
    """The method's own learners, fitted: what its transforms and probes may be made for."""
    for entry in of.entries:
        if entry.kind == "learner" and "table" in of.tasks:
            X, y = table_rows(entry)
            yield f"a fitted {entry.name}", entry.load()(**quick_knobs(of, entry)).fit(X, y), X


def _run(of: Card, entry: Entry) -> _Done:
    """Run an entry on the first input that it takes."""
    knobs = quick_knobs(of, entry)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        if entry.kind == "learner":
            made = entry.load()(**knobs)
            if "table" in of.tasks:
                return _Done(made.fit(*table_rows(entry)), None, {})
            return _Done(small_task(of.tasks[0]).fit(made), None, {})
        refusals = []
        for name, model, data in (*own_learners(of), *language_inputs(of), *model_inputs()):
            before = model_state(model)
            try:
                return _Done(entry.load()(model, data, **knobs), model, before)
            except (ModelError, DataError) as error:
                refusals.append(f"{name}: {error}")
    raise AssertionError(f"{entry.name} takes none of the small inputs ({'; '.join(refusals)})")


def _hold(condition: Any, sentence: str) -> None:
    if not condition:
        raise AssertionError(sentence)


def _same(
    one: Mapping[str, np.ndarray],
    other: Mapping[str, np.ndarray],
    what: str,
    tolerance: float = 0.0,
) -> None:
    _hold(list(one) == list(other), f"{what}: {sorted(set(one) ^ set(other))} are on one side only")
    _hold(one, f"{what}: there is nothing to compare")
    for name, values in one.items():
        _hold(values.shape == other[name].shape, f"{what}: {name} has another shape")
        _hold(
            np.allclose(values, other[name], rtol=tolerance, atol=0, equal_nan=True),
            f"{what}: {name} differs by up to {np.nanmax(np.abs(values - other[name])):.3g}",
        )


def _refused(what: str, action: Callable[..., Any], *given: Any, **named: Any) -> None:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            action(*given, **named)
    except (ValueError, TypeError) as error:
        _hold(str(error), f"{what}: the error says nothing")
        return
    except Exception as error:
        raise AssertionError(f"{what}: a {type(error).__name__}, no ValueError") from error
    raise AssertionError(f"{what} was not refused")
