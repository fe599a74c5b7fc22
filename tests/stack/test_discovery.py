"""Which list of modules is the stack, and what is said where that is not plain."""

import pytest
import torch
import transformers as hf
from stack_families import Residual, Tower, build
from torch import nn

from stackwise.errors import ModelError
from stackwise.stack import Stack


def test_blocks_are_the_models_own() -> None:
    model = build("llama")
    stack = Stack.of(model)
    assert stack.blocks == list(model.model.layers)
    assert stack.names[2] == "model.layers.2"
    assert stack.model is model


def test_a_part_of_a_model_is_a_model() -> None:
    assert Stack.of(build("llama").model).name == "layers"
    assert Stack.of(build("t5-encoder").encoder).name == "block"
    assert Stack.of(build("bart-decoder").get_decoder()).name == "layers"


def test_the_language_model_of_a_model_that_also_sees() -> None:
    model = build("gemma3")
    assert Stack.of(model).name == "model.language_model.layers"
    assert len(Stack.of(model, blocks="model.vision_tower.encoder.layers")) == 3


def test_a_model_of_two_sides_wants_one_named() -> None:
    model = build("t5-encoder")
    with pytest.raises(ModelError, match=r"encoder\.block.*decoder\.block.*side="):
        Stack.of(model)
    assert Stack.of(model, side="encoder").name == "encoder.block"
    assert Stack.of(model, side="decoder").name == "decoder.block"
    with pytest.raises(ModelError, match="'encoder' or 'decoder'"):
        Stack.of(model, side="left")
    with pytest.raises(ModelError, match="no encoder with a list"):
        Stack.of(build("llama"), side="encoder")


def test_torch_transformer_has_two_sides() -> None:
    model = nn.Transformer(16, 2, 3, 3, 24)
    assert len(Stack.of(model, side="decoder")) == 3
    with pytest.raises(ModelError, match="side="):
        Stack.of(model)


def test_an_encoder_and_a_decoder_joined() -> None:
    text = {"vocab_size": 40, "hidden_size": 16, "intermediate_size": 24, "num_attention_heads": 2}
    config = hf.EncoderDecoderConfig.from_encoder_decoder_configs(
        hf.BertConfig(**text, num_hidden_layers=2), hf.BertConfig(**text, num_hidden_layers=3)
    )
    model = hf.EncoderDecoderModel(config).eval()
    stack = Stack.of(model, side="decoder")
    assert (stack.name, len(stack)) == ("decoder.bert.encoder.layer", 3)
    with stack.path([0, 1, 1, 2]):
        assert model.config.decoder.num_hidden_layers == 4
        assert model.config.encoder.num_hidden_layers == 2
        tokens = torch.tensor([[3, 4, 5]])
        model(input_ids=tokens, decoder_input_ids=tokens)


def test_a_hybrid_of_two_kinds_of_layer_is_one_stack() -> None:
    layers = {"num_hidden_layers": 4, "attn_layer_period": 2, "attn_layer_offset": 1}
    sizes = {"vocab_size": 40, "hidden_size": 16, "intermediate_size": 24, "num_experts": 2}
    heads = {"num_attention_heads": 2, "num_key_value_heads": 1, "use_mamba_kernels": False}
    model = hf.JambaForCausalLM(hf.JambaConfig(**layers, **sizes, **heads))
    assert len({type(block) for block in Stack.of(model).blocks}) == 2
    assert len(Stack.of(model)) == 4


def test_in_a_sequential_what_surrounds_the_blocks_is_stem_and_head() -> None:
    model = build("sequential")
    stack = Stack.of(model)
    assert stack.names == ["1", "2", "3", "4"]
    assert stack.margins == (1, 1)
    with stack.path([0, 0]):
        assert isinstance(model[0], nn.Linear) and isinstance(model[-1], nn.Linear)
        assert len(model) == 4
    shorter = stack.rebuild([2])
    assert [type(m).__name__ for m in shorter] == ["Linear", "Residual", "Linear"]


def test_in_a_sequential_of_bare_layers_each_is_a_block() -> None:
    model = nn.Sequential(nn.Linear(4, 4), nn.ReLU(), nn.Linear(4, 4), nn.ReLU())
    assert len(Stack.of(model)) == 4
    assert len(Stack.of(nn.Sequential(*(nn.Linear(4, 4) for _ in range(3))))) == 3


def test_named_children_of_a_sequential_keep_their_names() -> None:
    torch.manual_seed(0)
    model = nn.Sequential()
    for name in ("first", "second", "third"):
        model.add_module(name, Residual())
    x = torch.randn(2, 16)
    stack = Stack.of(model)
    with stack.path([2, 0, 2]):
        assert len(model) == 3
        assert torch.equal(model(x), stack.blocks[2](stack.blocks[0](stack.blocks[2](x))))
    assert [name for name, _ in stack.rebuild([2, 0, 2]).named_children()] == [
        "third",
        "first",
        "third_at_2",
    ]


def test_lists_inside_blocks_and_lists_of_bare_layers_are_not_the_stack() -> None:
    class Mixture(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.columns = nn.ModuleList([nn.Embedding(3, 4) for _ in range(9)])
            block = [nn.ModuleList([Residual() for _ in range(8)]) for _ in range(2)]
            self.blocks = nn.ModuleList([nn.ModuleDict({"experts": e}) for e in block])

    assert Stack.of(Mixture()).name == "blocks"


def test_lists_of_about_the_same_length_are_for_the_caller_to_choose() -> None:
    class Towers(nn.Module):
        def __init__(self, left: int, right: int) -> None:
            super().__init__()
            self.left = nn.ModuleList([Residual() for _ in range(left)])
            self.right = nn.ModuleList([Residual() for _ in range(right)])

    with pytest.raises(ModelError, match=r"left \(3 x Residual\); right \(4 x Residual\)"):
        Stack.of(Towers(3, 4))
    assert Stack.of(Towers(3, 4), blocks="left").name == "left"
    assert Stack.of(Towers(8, 2)).name == "left"


def test_a_model_without_a_list_says_what_it_has() -> None:
    class Plain(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.net = nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, 1))

    with pytest.raises(ModelError, match=r"net \(Sequential of 3\).*blocks='<name>'"):
        Stack.of(Plain())
    assert len(Stack.of(Plain(), blocks="net")) == 3
    with pytest.raises(ModelError, match="lists in it: none"):
        Stack.of(nn.Linear(2, 2))


def test_a_name_that_leads_nowhere_lists_the_candidates() -> None:
    with pytest.raises(ModelError, match=r"no module 'layer'.*layers \(4 x Residual\)"):
        Stack.of(Tower(), blocks="layer")
    with pytest.raises(ModelError, match="holds no blocks"):
        Stack.of(Tower(), blocks="stem")


def test_a_fitted_learner_is_taken_by_its_network() -> None:
    class Fitted:
        network_ = Tower()

    assert Stack.of(Fitted()).model is Fitted.network_
    with pytest.raises(ModelError, match="not str"):
        Stack.of("llama")


def test_a_list_that_was_edited_wants_a_new_stack() -> None:
    for edit in (
        lambda m: m.layers.__delitem__(3),
        lambda m: setattr(m, "layers", m.layers[:2]),
        lambda m: m.layers.append(Residual()),
        lambda m: delattr(m, "layers"),
    ):
        model = Tower()
        stack = Stack.of(model)
        edit(model)
        with pytest.raises(ModelError, match="was edited; make a new"), stack.path([0, 1]):
            pass


def test_the_view_is_live() -> None:
    model = Tower()
    stack = Stack.of(model)
    replacement = Residual()
    model.layers[1] = replacement
    assert stack.blocks[1] is replacement
    x = torch.randn(2, 5)
    with stack.path([1, 1]):
        expected = model.head(replacement(replacement(model.stem(x))))
        assert torch.equal(model(x), expected)
