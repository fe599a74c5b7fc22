"""What learners of the task share: parts that are given or new, training on answers, answering.

    learner = AllTokens(model="smollm2-135m", vision="dinov2-small").fit(task)
    learner.predict([{"image": "scan.png", "question": "what is in row 1?"}])

Without `model` and `vision` a small decoder, its tokenizer and a small vision transformer are made
anew. What is new learns, and what is given stays as it is unless it is to be tuned; the projector
between them always learns.
"""

import copy
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal, Self

import torch
from sklearn.utils.validation import check_is_fitted
from torch import nn

from stackwise.catalog import Knob, ModelRef, task_card
from stackwise.errors import DataError, KnobError, ModelError
from stackwise.files import read_tensors, write_tensors
from stackwise.learning.network import NetworkLearner, computing_with
from stackwise.models import open_model, save_model
from stackwise.optional import needs
from stackwise.protocols import Task
from stackwise.tasks.images.reading.decode import look
from stackwise.tasks.language.decoder import new_decoder
from stackwise.tasks.language.reading import check_causal, context_of, device_of, tokenizer_for
from stackwise.tasks.language.tokenizers import learned_tokenizer
from stackwise.tasks.vqa.estimators.answering import ROWS, written
from stackwise.tasks.vqa.estimators.network import PictureReader, Stands
from stackwise.tasks.vqa.estimators.prompts import QuestionBatches, encode, text_of_all
from stackwise.tasks.vqa.estimators.views import Views
from stackwise.tasks.vqa.estimators.vision import Tower, new_vision, normalisation
from stackwise.tasks.vqa.records import Asked, group_of, read_asked
from stackwise.training.knobs import training_knobs
from stackwise.training.phases import Phase
from stackwise.training.rules import Backprop

GIVEN_SIDE = 224
"""Pixels that a given vision transformer reads; those that it was trained with may be many more."""
LANGUAGE, VISION, BETWEEN = "model", "vision", "projector.safetensors"
"""Where the parts of a fitted learner lie."""


def reader_knobs(
    *,
    model: Annotated[
        ModelRef | str | None, Knob("the language model; none makes a small new one")
    ] = None,
    vision: Annotated[
        ModelRef | str | None, Knob("the vision transformer; none makes a small new one")
    ] = None,
    side: Annotated[
        int | None, Knob("pixels of a view; none is 28 for a new tower, else 224", ge=1)
    ] = None,
    tune_model: Annotated[
        bool | None, Knob("let the language model learn; none: where it is new")
    ] = None,
    tune_vision: Annotated[
        bool | None, Knob("let the vision transformer learn; none: where it is new")
    ] = None,
    layers: Annotated[int, Knob("blocks of a new language model", ge=1)] = 6,
    width: Annotated[int, Knob("numbers of its stream", ge=8)] = 64,
    heads: Annotated[int, Knob("its attention heads", ge=1)] = 4,
    vocabulary: Annotated[int, Knob("tokens of a new tokenizer", ge=257)] = 400,
    patch: Annotated[int, Knob("pixels of a patch of a new tower", ge=1)] = 7,
    vision_layers: Annotated[int, Knob("blocks of a new tower", ge=1)] = 1,
    vision_width: Annotated[int, Knob("numbers of its stream", ge=8)] = 64,
) -> None:
    """Only the signature counts; see `stackwise.catalog.learner`."""


TRAINING = {
    "lr": 3e-3, "weight_decay": 0.01, "schedule": "cosine", "warmup": 0.03, "max_epochs": 20,
    "patience": None,
}  # fmt: skip
QUICK = {
    "layers": 4, "width": 32, "heads": 2, "vision_width": 32, "max_epochs": 3, "vocabulary": 300,
}  # fmt: skip
PRESETS: dict[str, dict[str, Any]] = {"quick": QUICK, "standard": {}, "best": {"max_epochs": 60}}


class VQALearner(NetworkLearner):
    """A learner that reads a picture and a question and writes the answer.

    Fitted, besides what `NetworkLearner` says: `tokenizer_`, `channels_`, `mean_` and `std_` (of
    pictures), `most_` (tokens of an answer).
    """

    tasks: ClassVar[tuple[str, ...]] = ("vqa",)
    shared_knobs: ClassVar[tuple[Any, ...]] = (reader_knobs, training_knobs)
    stands: ClassVar[Stands] = "low"

    network_: PictureReader
    channels_: Literal[1, 3]

    def fit(self, X: Any, y: Any = None) -> Self:
        """Learn the answers of the training part; the validation part says what is best.

        Args:
            X: a loaded task, or questions about pictures: what its `load` takes, or a list of
                records. y: their answers, where the records do not have them.
        """
        task: Any = X if isinstance(X, Task) else task_card(self.tasks[0]).load().of(X, y)
        self._begin()
        asked, held = task.part("train")[0], task.part("validation")[0]
        given = None if self.model is None else self._opened_language()
        self.tokenizer_ = (
            learned_tokenizer(text_of_all(asked), self.vocabulary) if given is None
            else tokenizer_for(given, self.model, "questions")
        )  # fmt: skip
        prompts = [encode(one, self.tokenizer_, answered=True) for one in (*asked, *held)]
        self.most_ = max(len(one.ids) - one.learned for one in prompts)
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(self.seed_)
            tower = self._tower(asked)
            longest = max(len(one.ids) for one in prompts) + self.most_
            language = given or self._new_language(tower, longest)
            network = self.build_network(language, tower)
        self._check_context(network, longest)
        network = self.with_tuned(network)
        rule = Backprop(
            task.loss, validate=self._watching(task), lr=self.lr, grad_clip=self.grad_clip,
            weight_decay=self.weight_decay, schedule=self.schedule, warmup=self.warmup,
        )  # fmt: skip
        batches = task.batches("train", model=self, seed=self.seed_)
        trained = self.train(
            network, [Phase("train", rule, batches, self.max_epochs, self.patience)]
        )
        fitted: Any = trained.model.cpu().eval().requires_grad_(True)
        self.network_ = fitted
        return self

    def build_network(self, language: Any, tower: Tower) -> PictureReader:
        """The network of these parts."""
        return PictureReader(language, None if self.stands == "none" else tower, self.stands)

    def crops(self) -> tuple[int, Callable[[int, int], tuple[int, int]]] | None:
        """The most crops of a picture, and which grid (gh, gw) one of (height, width) gets; None
        where the low view is enough.
        """
        return None

    def with_tuned(self, network: PictureReader) -> PictureReader:
        """The network, what does not learn frozen."""
        new = self.model is None, self.vision is None
        tuned = self.tune_model, self.tune_vision
        learns = [one if said is None else said for one, said in zip(new, tuned, strict=True)]
        network.language.requires_grad_(learns[0])
        if network.tower is not None:
            network.tower.requires_grad_(learns[1])
        if not any(parameter.requires_grad for parameter in network.parameters()):
            raise KnobError("nothing would learn: there is no projector, and no part is tuned")
        return network

    def questions(
        self, asked: Sequence[Asked], *, batch_size: int | None = None, seed: int = 0,
        shuffle: bool = True,
    ) -> QuestionBatches:  # fmt: skip
        """Questions with answers as batches, read as this learner reads them."""
        size = batch_size or (ROWS if self.batch_size == "auto" else int(self.batch_size))
        prompts = [encode(one, self.tokenizer_, answered=True) for one in asked]
        pictures, views = self._views(asked)
        return QuestionBatches(
            prompts, pictures, views, size, pad=self._pad, seed=seed, shuffle=shuffle
        )

    @torch.no_grad()
    def predict(self, X: Any) -> list[str]:
        """The answer to each question: the likeliest tokens up to the end of the answer.

        Args:
            X: questions about pictures, as for `fit`; answers are not read.
        """
        check_is_fitted(self, "network_")
        asked = X if isinstance(X, list) and X and isinstance(X[0], Asked) else (
            read_asked(X, answered=False)
        )  # fmt: skip
        network = self.network_.eval()
        pictures, views = self._views(asked)
        longest = max(len(encode(one, self.tokenizer_, answered=False).ids) for one in asked)
        self._check_context(network, longest + self.most_)
        with computing_with(self.threads):
            return written(
                network, self.tokenizer_, asked, most=self.most_, pictures=pictures, views=views
            )

    @property
    def _pad(self) -> int:
        return int(self.tokenizer_.eos_token_id or 0)

    def _opened_language(self) -> Any:
        opened = open_model(self.model)
        language = getattr(opened, "model_", opened)
        check_causal(language)
        if not isinstance(language, nn.Module) or not hasattr(language, "get_input_embeddings"):
            raise ModelError(f"a {type(language).__name__} is no language model of transformers")
        return copy.deepcopy(language).float()

    def _new_language(self, tower: Tower, longest: int) -> Any:
        counted = self.crops()
        most = counted[0] if counted else 1
        # as long as the longest reader's, so that all begin from the same weights
        length = longest + (most + 1) * tower.patches**2 + 64
        return new_decoder(
            len(self.tokenizer_), layers=self.layers, width=self.width, heads=self.heads,
            length=length,
        )  # fmt: skip

    def _tower(self, asked: Sequence[Asked]) -> Tower:
        """The vision transformer and what is known of its pictures."""
        if self.vision is None:
            side = self.side or 28
            self.channels_ = channels_of(asked)
            model: Any = new_vision(
                side=side, patch=self.patch, channels=self.channels_, layers=self.vision_layers,
                width=self.vision_width, heads=self.heads,
            )  # fmt: skip
        else:
            side = self.side or GIVEN_SIDE
            opened = open_model(self.vision)
            model = copy.deepcopy(getattr(opened, "network_", opened))
            if not isinstance(model, nn.Module) or not hasattr(model, "config"):
                raise ModelError(f"a {type(opened).__name__} is no vision model of transformers")
            model = backbone_of(model).float()
            Tower(model, side)  # before anything of its configuration is read
            channels = int(getattr(model.config, "num_channels", 3))
            if channels not in (1, 3):
                raise ModelError(f"the vision model reads {channels} channels; 1 and 3 are known")
            self.channels_ = 1 if channels == 1 else 3
        self.mean_, self.std_ = normalisation(model, self.vision is None)
        return Tower(model, side)

    def _views(self, asked: Sequence[Asked]) -> tuple[list[int], Views | None]:
        """The number of each question's picture, and the views of the pictures."""
        numbers = group_of(asked).tolist()
        if self.stands == "none":
            return numbers, None
        first = dict(zip(reversed(numbers), reversed(asked), strict=True))
        ordered = [first[number] for number in range(len(first))]
        most, grid = self.crops() or (0, None)
        views = Views(
            [one.picture for one in ordered], [one.name for one in ordered],
            side=self._side(), channels=self.channels_, mean=self.mean_, std=self.std_, grid=grid,
            most=most,
        )  # fmt: skip
        return numbers, views

    def _side(self) -> int:
        return int(self.side or (28 if self.vision is None else GIVEN_SIDE))

    def _check_context(self, network: PictureReader, tokens: int) -> None:
        most = context_of(network.language)
        counted = self.crops()
        needed = tokens + network.length(counted[0] if counted else 1)
        if most is not None and needed > most:
            raise DataError(
                f"a question with its picture and answer takes up to {needed} tokens, and the "
                f"language model takes {most}; give shorter ones, or a smaller side"
            )

    def _watching(self, task: Any) -> Callable[[nn.Module], Mapping[str, float]]:
        held = task.batches("validation", model=self)

        @torch.no_grad()
        def validate(network: nn.Module) -> dict[str, float]:
            device = device_of(network)
            total, rows = 0.0, 0
            for batch in held.epoch(0):
                moved = {name: one.to(device) for name, one in batch.items()}
                count = len(batch["labels"])
                total, rows = total + count * float(task.loss(network, moved)), rows + count
            return {"loss": total / rows}

        return validate

    def _write(self, folder: Path) -> dict[str, Any]:
        network = self.network_
        save_model(network.language, folder / LANGUAGE)
        self.tokenizer_.save_pretrained(folder / LANGUAGE)
        if network.tower is not None:
            save_model(network.tower.model, folder / VISION)
        write_tensors(folder / BETWEEN, between(network))
        return {
            "history": self.history_, "channels": self.channels_, "mean": self.mean_,
            "std": self.std_, "most": self.most_,
        }  # fmt: skip

    def _read(self, folder: Path, record: Mapping[str, Any]) -> None:
        needs("transformers", "a language model")
        from transformers import AutoTokenizer

        self.history_ = record["history"]
        self.channels_, self.most_ = record["channels"], record["most"]
        self.mean_, self.std_ = record["mean"], record["std"]
        self.tokenizer_ = AutoTokenizer.from_pretrained(folder / LANGUAGE)
        tower: Any = None
        if (folder / VISION).is_dir():
            tower = Tower(open_model(folder / VISION, fetch=False), self._side())
        network = self.build_network(open_model(folder / LANGUAGE, fetch=False), tower)
        kept = read_tensors(folder / BETWEEN)
        network.load_state_dict(network.state_dict() | kept)
        self.network_ = network.eval()


def between(network: PictureReader) -> dict[str, torch.Tensor]:
    """The weights that are neither the language model's nor the tower's."""
    language, tower = network.language, network.tower
    own = {id(one) for part in (language, tower) if part is not None for one in part.parameters()}
    own |= {id(one) for part in (language, tower) if part is not None for one in part.buffers()}
    named = {**dict(network.named_parameters()), **dict(network.named_buffers())}
    return {name: one.detach() for name, one in named.items() if id(one) not in own}


def backbone_of(model: Any) -> Any:
    """The tower inside a classifier; a tower as it is."""
    inner = getattr(model, getattr(model, "base_model_prefix", "") or "-", None)
    return model if inner is None else inner


def channels_of(asked: Sequence[Asked]) -> Literal[1, 3]:
    """1 where every picture is of a kind without colours."""
    grey = all(
        one.picture.shape[2] == 1 if hasattr(one.picture, "shape")
        else look(one.picture, name=one.name).grey
        for one in {one.key: one for one in asked}.values()
    )  # fmt: skip
    return 1 if grey else 3
