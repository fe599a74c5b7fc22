"""Self-speculative decoding: a shallow exit drafts, the whole depth checks, the text is the same.

    draft      k times: blocks 1..d and the shared head give the next token; the stream h_d is kept
    check      blocks d+1..L on the k kept streams, in one pass: what the whole model would say
    keep       drafts as long as they agree, then the whole model's own token; caches go back

No block runs twice on a token, for the check goes on where the draft ended; both halves have caches
of their own and share the model's weights. A draft that is unsure ends early (`confidence`), so
that its length adapts. Under greedy decoding every token is the whole model's own.

Source: arXiv 2309.08968 (sorted exits as drafters). Where the most likely two tokens are within
rounding error of each other, one pass over k tokens may decide otherwise than k passes would.
"""

import inspect
from typing import Any

import torch
from torch import Tensor, nn

from stackwise.errors import KnobError, ModelError
from stackwise.optional import needs
from stackwise.stack import Stack
from stackwise.stack.watch import stream_key, stream_out


class SelfSpeculation(nn.Module):
    """A decoder as a drafter of its first blocks and a checker of the others, over one set of
    weights. `generate` has the arguments of transformers' that greedy decoding needs.

    Args:
        model: a causal language model of transformers.
        draft_depth: d, blocks that draft. draft_tokens: k, drafts before a check at most.
        confidence: a draft whose probability is below it is the last before a check.

    Attributes:
        drafted, accepted, checks: tokens that were drafted, kept, and passes that checked, over all
            calls of `generate`.
    """

    def __init__(
        self, model: Any, draft_depth: int, *, draft_tokens: int = 4, confidence: float = 0.0
    ) -> None:
        super().__init__()
        depth = len(Stack.of(model))
        if not 1 <= draft_depth < depth:
            raise KnobError(
                f"draft_depth must be at least 1 and below the {depth} blocks, got {draft_depth}"
            )
        if draft_tokens < 1:
            raise KnobError(f"draft_tokens must be at least 1, got {draft_tokens}")
        if not getattr(model, "can_generate", lambda: False)():
            raise ModelError(f"a {type(model).__name__} is no causal language model")
        self.config = model.config
        self.draft_tokens, self.confidence = draft_tokens, confidence
        self.drafter = sharing(model, list(range(draft_depth)))
        self.checker = sharing(model, list(range(draft_depth, depth)))
        self._last = _Kept(Stack.of(self.drafter).blocks[-1])
        self._first = _Given(Stack.of(self.checker).blocks[0])
        self._lean = "logits_to_keep" in inspect.signature(self.checker.forward).parameters
        self.drafted = self.accepted = self.checks = 0
        self.eval()

    @torch.no_grad()
    def generate(
        self,
        input_ids: Tensor,
        *,
        max_new_tokens: int,
        eos_token_id: int | list[int] | None = None,
        do_sample: bool = False,
        **_: Any,
    ) -> Tensor:
        """(1, T) tokens -> (1, T + n), n at most `max_new_tokens`; the greedy continuation.

        Raises:
            KnobError: several rows, or random tokens are asked for.
        """
        if do_sample:
            raise KnobError("drafts are checked against greedy decoding; leave the temperature 0")
        if len(input_ids) != 1:
            raise KnobError(f"one row at a time is continued, got {len(input_ids)}")
        ends = {eos_token_id} if isinstance(eos_token_id, int) else set(eos_token_id or ())
        caches = self._caches()
        written: list[int] = []
        self._draft(input_ids, caches)
        token = int(self._check(input_ids, [self._last.stream], caches, keep=1)[-1])
        while True:
            written.append(token)
            if token in ends or len(written) >= max_new_tokens:
                break
            wanted = min(self.draft_tokens, max_new_tokens - len(written))
            drafts, streams = self._drafts(token, wanted, caches, input_ids.device)
            read = torch.tensor([[token, *drafts[:-1]]], device=input_ids.device)
            own = self._check(read, streams, caches, keep=len(drafts)).tolist()
            agreed = next((i for i, d in enumerate(drafts) if own[i] != d), len(drafts))
            self.accepted += agreed
            for draft in drafts[:agreed]:
                written.append(draft)
                if draft in ends or len(written) >= max_new_tokens:
                    return self._whole(input_ids, written)
            # after the first that differed comes the whole model's own; else the last draft is read
            wrong = len(drafts) - min(agreed + 1, len(drafts))
            for cache in caches if wrong else ():
                cache.crop(-wrong)
            token = own[agreed] if agreed < len(drafts) else written.pop()
        return self._whole(input_ids, written)

    @staticmethod
    def _whole(input_ids: Tensor, written: list[int]) -> Tensor:
        return torch.cat([input_ids, input_ids.new_tensor([written])], 1)

    def _caches(self) -> tuple[Any, Any]:
        needs("transformers", "a language model")
        from transformers import DynamicCache

        halves: tuple[Any, Any] = self.drafter, self.checker
        return DynamicCache(config=halves[0].config), DynamicCache(config=halves[1].config)

    def _drafts(
        self, token: int, wanted: int, caches: tuple[Any, Any], device: torch.device
    ) -> tuple[list[int], list[Tensor]]:
        """Up to so many next tokens, and the streams of the tokens that were read for them."""
        drafts: list[int] = []
        streams = []
        while len(drafts) < wanted:
            logits = self._draft(torch.tensor([[token]], device=device), caches)
            streams.append(self._last.stream)
            token = int(logits.argmax())
            drafts.append(token)
            if self.confidence and float(logits.softmax(-1)[token]) < self.confidence:
                break
        self.drafted += len(drafts)
        return drafts, streams

    def _draft(self, ids: Tensor, caches: tuple[Any, Any]) -> Tensor:
        """(vocabulary,) logits of the shallow exit after the last of some tokens."""
        more = {"logits_to_keep": 1} if self._lean else {}
        found = self.drafter(input_ids=ids, past_key_values=caches[0], use_cache=True, **more)
        logits: Tensor = found.logits[0, -1].float()
        return logits

    def _check(
        self, ids: Tensor, streams: list[Tensor], caches: tuple[Any, Any], keep: int
    ) -> Tensor:
        """(keep,) the tokens that the whole model says after the last of these."""
        more = {"logits_to_keep": keep} if self._lean else {}
        self._first.stream = torch.cat(streams, 1)
        found = self.checker(input_ids=ids, past_key_values=caches[1], use_cache=True, **more)
        self.checks += 1
        tokens: Tensor = found.logits[0, -keep:].argmax(-1)
        return tokens


class _Kept:
    """Keeps the stream that comes out of a block."""

    stream: Tensor

    def __init__(self, block: nn.Module) -> None:
        block.register_forward_hook(self)

    def __call__(self, module: nn.Module, args: Any, output: Any) -> None:
        self.stream = stream_out(output, 0)


class _Given:
    """Gives a block another stream than the one it is called with."""

    stream: Tensor

    def __init__(self, block: nn.Module) -> None:
        block.register_forward_pre_hook(self, with_kwargs=True)

    def __call__(self, module: nn.Module, args: Any, kwargs: Any) -> Any:
        key = stream_key(args, kwargs, 0)
        if key is None:
            return (self.stream, *args[1:]), kwargs
        return args, {**kwargs, key: self.stream}


def sharing(model: nn.Module, order: list[int]) -> nn.Module:
    """A model of these blocks, in modules of its own over the weights of the given one."""
    stack = Stack.of(model)
    new = stack.rebuild(order)
    made = Stack.of(new)
    pairs = [(made.blocks[place], stack.blocks[block]) for place, block in enumerate(order)]
    inside = {id(module) for block in made.blocks for module in block.modules()}
    theirs = dict(model.named_modules())
    pairs += [
        (module, theirs[name]) for name, module in new.named_modules()
        if id(module) not in inside and name in theirs
    ]  # fmt: skip
    for ours, origin in pairs:
        own = dict(origin.named_modules()) if id(ours) in inside else {"": origin}
        for name, module in ours.named_modules() if id(ours) in inside else [("", ours)]:
            module._parameters.update(own[name]._parameters)
    return new


def speculative_generate(
    model: Any,
    input_ids: Tensor,
    *,
    draft_depth: int,
    draft_tokens: int = 4,
    confidence: float = 0.0,
    max_new_tokens: int = 50,
) -> Tensor:
    """The greedy continuation of (1, T) tokens, by self-speculative decoding.

    Where many prompts follow, make a `SelfSpeculation` once.
    """
    made = SelfSpeculation(
        model, draft_depth, draft_tokens=draft_tokens, confidence=confidence
    )  # fmt: skip
    end = getattr(model.generation_config, "eos_token_id", None)
    return made.generate(input_ids, max_new_tokens=max_new_tokens, eos_token_id=end)
