"""A rebuilt model stands on its own, and can be loaded again or is refused."""

import copy

import pytest
import torch
import transformers as hf
from stack_families import FAMILIES, batch, build, run

from stackwise.errors import ModelError
from stackwise.stack import Stack

torch.set_num_threads(1)


def stack_of(family: str) -> Stack:
    return Stack.of(build(family), side=FAMILIES[family].side)


@pytest.mark.parametrize("family", FAMILIES)
def test_no_weight_is_shared_with_the_model_or_between_repeats(family: str) -> None:
    stack = stack_of(family)
    new = stack.rebuild([0, 1, 1, 0])
    places = {p.data_ptr() for p in stack.model.parameters()}
    assert not places & {p.data_ptr() for p in new.parameters()}
    blocks = Stack.of(new, side=FAMILIES[family].side).blocks
    own = [{id(p) for p in block.parameters()} for block in blocks]
    assert all(not a & b for i, a in enumerate(own) for b in own[:i])
    assert not {id(m) for m in new.modules()} & {id(m) for m in stack.model.modules()}


@pytest.mark.parametrize("family", [f for f in FAMILIES if FAMILIES[f].kind != "rows"])
def test_the_new_config_is_one_object_and_the_old_is_unchanged(family: str) -> None:
    stack = stack_of(family)
    before = copy.deepcopy(stack.model.config.to_dict())
    new = stack.rebuild([0, 1, 1, 3, 2])
    assert stack.model.config.to_dict() == before
    blocks = Stack.of(new, side=FAMILIES[family].side).blocks
    configs = {id(c) for b in blocks for m in b.modules() if (c := getattr(m, "config", None))}
    assert len(configs) <= 1


@pytest.mark.parametrize("family", ["opt", "llama", "vit", "t5-encoder", "bart-decoder"])
def test_the_new_config_has_no_entry_that_the_old_has_not(family: str) -> None:
    stack = stack_of(family)
    new = stack.rebuild([0, 1, 1, 3, 2])
    assert new.config.to_dict().keys() == stack.model.config.to_dict().keys()


@pytest.mark.parametrize("family", ["gpt2", "bert", "t5-decoder", "bart-encoder"])
def test_tied_weights_stay_tied(family: str) -> None:
    new = stack_of(family).rebuild([0, 2])
    inputs, outputs = new.get_input_embeddings(), new.get_output_embeddings()
    assert outputs.weight is inputs.weight


def test_a_rebuilt_model_is_rebuilt_again() -> None:
    stack = stack_of("gemma3-text")
    twice = Stack.of(stack.rebuild([3, 2, 1, 1])).rebuild([0, 3, 3])
    with stack.path([3, 1, 1]):
        assert torch.equal(run(twice, "gemma3-text"), run(stack.model, "gemma3-text"))
    assert twice.config.layer_types == ["full_attention"] * 3


def test_training_a_rebuilt_model_leaves_the_first_alone() -> None:
    stack = stack_of("llama")
    plain = run(stack.model, "llama")
    new = stack.rebuild([0, 1, 1])
    optimizer = torch.optim.SGD(new.parameters(), lr=0.1)
    new(**batch("llama"), labels=batch("llama")["input_ids"]).loss.backward()
    optimizer.step()
    assert torch.equal(run(stack.model, "llama"), plain)
    layers = new.model.layers
    assert not torch.equal(layers[1].mlp.up_proj.weight, layers[2].mlp.up_proj.weight)


def test_rebuild_inside_contexts_is_of_the_blocks_alone() -> None:
    stack = stack_of("llama")
    expected = run(stack.rebuild([1, 0]), "llama")
    with stack.path([3, 3]), stack.intervene(3, lambda h: 0 * h), stack.capture():
        new = stack.rebuild([1, 0])
        assert stack.order == [3, 3]
    assert torch.equal(run(new, "llama"), expected)
    assert not any(m._forward_hooks or m._forward_pre_hooks for m in new.modules())


def test_rebuild_consumes_no_randomness() -> None:
    stack = stack_of("llama")
    before = torch.random.get_rng_state()
    stack.rebuild([0, 0, 1])
    assert torch.equal(torch.random.get_rng_state(), before)


def test_t5_keeps_its_position_bias_where_its_first_block_is_gone(tmp_path) -> None:
    stack = stack_of("t5-encoder")
    new = stack.rebuild([2, 1, 0])
    tables = [n for n, _ in new.encoder.named_parameters() if "relative_attention_bias" in n]
    assert tables == ["block.0.layer.0.SelfAttention.relative_attention_bias.weight"]
    with stack.path([2, 1, 0]):
        assert torch.equal(run(new, "t5-encoder"), run(stack.model, "t5-encoder"))
    before = new.encoder.block[0].layer[0].SelfAttention.relative_attention_bias.weight
    old = stack.blocks[0].layer[0].SelfAttention.relative_attention_bias.weight
    assert torch.equal(before, old) and before is not old


def test_an_order_that_the_config_cannot_say_is_refused() -> None:
    """GPT-2 may scale attention by depth: such a block is another one elsewhere."""
    config = hf.GPT2Config(
        n_embd=16, n_layer=3, n_head=2, vocab_size=40, scale_attn_by_inverse_layer_idx=True
    )
    model = hf.GPT2LMHeadModel(config).eval()
    stack = Stack.of(model)
    with pytest.raises(ModelError, match=r"block 2 .* at place 1 .*scaling.* use path\(\)"):
        stack.rebuild([0, 2])
    assert len(Stack.of(stack.rebuild([0, 1]))) == 2
    with stack.path([0, 2]):
        model(**batch("gpt2"))


def test_layers_that_are_named_by_index_follow() -> None:
    sizes = {"vocab_size": 40, "hidden_size": 16, "intermediate_size": 24, "num_hidden_layers": 4}
    experts = {"num_experts": 2, "num_experts_per_tok": 1, "moe_intermediate_size": 8}
    heads = {"num_attention_heads": 2, "num_key_value_heads": 1, "head_dim": 8}
    config = hf.Qwen3MoeConfig(**sizes, **experts, **heads, mlp_only_layers=[1, 3])
    stack = Stack.of(hf.Qwen3MoeForCausalLM(config).eval())
    new = stack.rebuild([0, 1, 1, 2])
    assert new.config.mlp_only_layers == [1, 2]
    assert config.mlp_only_layers == [1, 3]


def test_models_whose_layers_share_keys_and_values_are_refused() -> None:
    class Sharing(hf.LlamaConfig):
        num_kv_shared_layers: int = 0

    sizes = {"vocab_size": 40, "hidden_size": 16, "intermediate_size": 24, "num_hidden_layers": 2}
    config = Sharing(**sizes, num_attention_heads=2)
    config.num_kv_shared_layers = 1
    stack = Stack.of(hf.LlamaForCausalLM(config))
    with pytest.raises(ModelError, match="shares keys and values"), stack.path([0]):
        pass
    assert len(stack.model.model.layers) == 2
    with stack.path([0, 1]):
        stack.model(**batch("llama"))


def test_a_model_with_adapters_of_peft_is_merged_before_its_blocks_are_moved(tmp_path) -> None:
    peft = pytest.importorskip("peft")
    config = peft.LoraConfig(r=2, target_modules="all-linear", init_lora_weights=False)
    adapted = peft.get_peft_model(build("llama"), config).eval()
    order = [0, 1, 1, 2, 3]
    for holder in (adapted, adapted.get_base_model()):
        with pytest.raises(ModelError, match="adapters of peft .* merge them first"):
            Stack.of(holder).rebuild(order)
    inputs = batch("llama")
    with torch.no_grad(), Stack.of(adapted).path(order):
        expected = adapted(**inputs).logits
    Stack.of(adapted.merge_and_unload()).rebuild(order).save_pretrained(tmp_path)
    again = hf.AutoModelForCausalLM.from_pretrained(tmp_path).eval()
    with torch.no_grad():
        assert torch.allclose(again(**inputs).logits, expected, atol=1e-4)


def test_a_model_with_adapters_of_peft_is_copied_in_its_own_order() -> None:
    peft = pytest.importorskip("peft")
    adapted = peft.get_peft_model(build("llama"), peft.LoraConfig(target_modules="all-linear"))
    stack = Stack.of(adapted)
    assert len(Stack.of(stack.rebuild(range(len(stack))))) == len(stack)


@pytest.mark.parametrize("order", [[0, 2], [0, 1, 1, 2, 3, 3]])
def test_a_backbone_of_another_depth_is_loaded_again(order: list[int], tmp_path) -> None:
    new = stack_of("dinov2").rebuild(order)
    new.save_pretrained(tmp_path)
    again = type(new).from_pretrained(tmp_path).eval()
    assert again.config.out_features == [f"stage{len(order)}"]
    assert torch.allclose(run(again, "dinov2"), run(new, "dinov2"), atol=1e-6)
