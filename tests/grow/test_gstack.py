"""G_stack and the other operators: what is copied, what is kept, and when to grow."""

import pytest
import torch
from torch import nn
from transformers import (
    AutoModelForCausalLM,
    BloomConfig,
    BloomForCausalLM,
    CohereConfig,
    CohereForCausalLM,
    FalconConfig,
    FalconForCausalLM,
    Gemma3ForCausalLM,
    Gemma3TextConfig,
    GemmaConfig,
    GemmaForCausalLM,
    GPT2Config,
    GPT2LMHeadModel,
    GPTJConfig,
    GPTJForCausalLM,
    GPTNeoXConfig,
    GPTNeoXForCausalLM,
    GraniteConfig,
    GraniteForCausalLM,
    LlamaConfig,
    LlamaForCausalLM,
    MistralConfig,
    MistralForCausalLM,
    MixtralConfig,
    MixtralForCausalLM,
    Olmo2Config,
    Olmo2ForCausalLM,
    OlmoConfig,
    OlmoForCausalLM,
    OPTConfig,
    OPTForCausalLM,
    PhiConfig,
    PhiForCausalLM,
    Qwen2Config,
    Qwen2ForCausalLM,
    Qwen2MoeConfig,
    Qwen2MoeForCausalLM,
    Qwen3Config,
    Qwen3ForCausalLM,
    StableLmConfig,
    StableLmForCausalLM,
)

from stackwise import load
from stackwise.catalog import card
from stackwise.errors import KnobError, ModelError
from stackwise.grow.gstack import (
    LearnedGrowth,
    Masked,
    WidthMask,
    add_noise,
    connection_rate,
    grow_optimizer_state,
    growth_schedule,
    gstack,
    interleaved_order,
    learned,
    output_projections,
    partial_order,
    spaces_of,
    stack_order,
    stacked,
    widened,
    widened_at_random,
    widened_with_zeros,
    with_identity_blocks,
    with_random_blocks,
)
from stackwise.grow.gstack.entry import source_blocks
from stackwise.grow.gstack.orders import check_order
from stackwise.runs import derive_run
from stackwise.stack import Stack

IDS = torch.randint(0, 50, (2, 9), generator=torch.Generator().manual_seed(3))
BASE = {"vocab_size": 50, "hidden_size": 32, "num_hidden_layers": 3, "num_attention_heads": 4}


def llama(tied=True, cls=LlamaForCausalLM, config=LlamaConfig, **more):
    torch.manual_seed(0)
    made = cls(
        config(**BASE, intermediate_size=48, num_key_value_heads=2, tie_word_embeddings=tied,
               **more)
    )  # fmt: skip
    for parameter in made.parameters():
        parameter.data.add_(0.2 * torch.randn(parameter.shape))
    return made.eval()


OTHERS = {
    "bloom": (BloomForCausalLM, BloomConfig, {}),
    "cohere": (CohereForCausalLM, CohereConfig, {}),
    "falcon": (FalconForCausalLM, FalconConfig, {}),
    "gemma": (GemmaForCausalLM, GemmaConfig, {"head_dim": 8}),
    "gemma3": (Gemma3ForCausalLM, Gemma3TextConfig, {"head_dim": 8}),
    "gptj": (GPTJForCausalLM, GPTJConfig, {"rotary_dim": 4}),
    "granite": (GraniteForCausalLM, GraniteConfig, {"embedding_multiplier": 2.0}),
    "llama with biases": (LlamaForCausalLM, LlamaConfig,
                          {"attention_bias": True, "mlp_bias": True}),
    "mistral": (MistralForCausalLM, MistralConfig, {}),
    "mixtral": (MixtralForCausalLM, MixtralConfig, {"num_local_experts": 4}),
    "olmo": (OlmoForCausalLM, OlmoConfig, {}),
    "olmo2": (Olmo2ForCausalLM, Olmo2Config, {}),
    "opt": (OPTForCausalLM, OPTConfig, {"ffn_dim": 48, "word_embed_proj_dim": 32}),
    "phi": (PhiForCausalLM, PhiConfig, {}),
    "qwen2 moe": (Qwen2MoeForCausalLM, Qwen2MoeConfig, {
        "moe_intermediate_size": 16, "shared_expert_intermediate_size": 16, "num_experts": 4,
        "num_experts_per_tok": 2}),
    "qwen3": (Qwen3ForCausalLM, Qwen3Config, {"head_dim": 8}),
    "stablelm": (StableLmForCausalLM, StableLmConfig, {}),
}  # fmt: skip
LIKE_LLAMA = ("granite", "llama with biases", "mistral", "qwen3")
SPECIAL = {"bos_token_id": 1, "eos_token_id": 2, "pad_token_id": 0}


def other(name):
    """A small decoder of another family, with weights that leave nothing near its start."""
    torch.manual_seed(0)
    cls, config, more = OTHERS[name]
    sizes = {"intermediate_size": 48, "num_key_value_heads": 2} | SPECIAL
    if name in ("bloom", "falcon", "gptj", "opt"):
        sizes = SPECIAL
    made = cls(config(**BASE, **sizes, **more))
    for parameter in made.parameters():
        parameter.data.add_(0.2 * torch.randn(parameter.shape))
    return made.eval()


def neox():
    torch.manual_seed(0)
    return GPTNeoXForCausalLM(GPTNeoXConfig(**BASE, intermediate_size=48)).eval()


def gpt2():
    torch.manual_seed(0)
    return GPT2LMHeadModel(GPT2Config(vocab_size=50, n_embd=32, n_layer=3, n_head=4)).eval()


@pytest.fixture(params=[llama, neox, gpt2], ids=["llama", "neox", "gpt2"])
def model(request):
    return request.param()


def logits(model, ids=IDS):
    with torch.no_grad():
        return model(input_ids=ids, use_cache=False).logits


def batches(count=6):
    drawn = [torch.randint(0, 50, (4, 12), generator=torch.Generator().manual_seed(i))
             for i in range(count)]  # fmt: skip
    return [{"input_ids": ids, "labels": ids} for ids in drawn]


# ---- orders and the schedule


def test_the_orders_of_the_paper():
    assert stack_order(3, 2) == [0, 1, 2, 0, 1, 2]
    assert interleaved_order(2, 3) == [0, 0, 0, 1, 1, 1]
    assert partial_order("12-3456*2-56", 6) == [0, 1, 2, 3, 4, 5, 2, 3, 4, 5, 4, 5]
    assert partial_order("1..12*2", 12) == stack_order(12, 2)


@pytest.mark.parametrize(
    ("order", "kept"),
    [
        (stack_order(6, 4), 20), (stack_order(8, 3), 21), (interleaved_order(8, 3), 7),
        (partial_order("12-3456*5-56", 6), 18), (partial_order("123*7-456", 6), 17),
    ],
)  # fmt: skip
def test_connection_rates_of_the_paper(order, kept):
    assert len(order) == 24
    assert connection_rate(order) == pytest.approx(kept / 23)


@pytest.mark.parametrize(
    "text", ["123*7-456", "1-234*7-56", "12-345*7-6", "123-456*7", "12-34*10-56", "1234-56*10"]
)
def test_every_partial_stacking_of_the_paper_gives_24_blocks(text):
    assert len(partial_order(text, 6)) == 24


@pytest.mark.parametrize(
    ("parameters", "tokens", "base"),
    [(8e9, 15e12, 6.58e9), (7e9, 2e12, 11.11e9), (13e9, 2e12, 15.84e9), (70e9, 2e12, 42.48e9)],
)
def test_the_schedule_gives_the_rows_of_the_papers_table(parameters, tokens, base):
    plan = growth_schedule(parameters, tokens)
    assert plan.base_tokens == pytest.approx(base, rel=0.01)
    assert plan.factor == 4
    spent = parameters / 4 * plan.base_tokens + parameters * plan.grown_tokens
    assert spent == pytest.approx(parameters * tokens)
    again = growth_schedule(parameters, flops=6 * parameters * tokens)
    assert again.base_tokens == pytest.approx(plan.base_tokens)


def test_the_base_gets_less_of_a_larger_budget():
    small, large = (growth_schedule(7e9, tokens).base_tokens for tokens in (1e12, 1e13))
    assert large < small


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda: stack_order(3, 1.5), "whole number of at least 1, got 1.5"),
        (lambda: partial_order("12-7", 6), r"names layer 6, the model has 6 \(0..5\)"),
        (lambda: partial_order("1a", 6), "no run of blocks"),
        (lambda: partial_order("12-5..3", 6), "names no block"),
        (lambda: partial_order("12*0-3", 6), "names no block"),
        (lambda: check_order([], 3), "empty"),
        (lambda: growth_schedule(1e9), "either tokens or flops"),
        (lambda: growth_schedule(1e6, 1e7), "more than the whole budget"),
        (lambda: growth_schedule(-1, 1e7), "must all be positive"),
    ],
)
def test_what_makes_no_sense_is_said_in_a_sentence(call, words):
    with pytest.raises(KnobError, match=words):
        call()


# ---- depth


def test_every_block_is_its_source_bit_for_bit_and_shares_nothing(model):
    order = stack_order(3, 2)
    grown = stacked(model, order)
    old, new = Stack.of(model).blocks, Stack.of(grown).blocks
    places = [p.data_ptr() for p in grown.parameters()]
    assert len(set(places)) == len(places)
    assert not set(places) & {p.data_ptr() for p in model.parameters()}
    for block, source in zip(new, order, strict=True):
        for mine, its in zip(block.parameters(), old[source].parameters(), strict=True):
            assert torch.equal(mine, its)
    inside = sum(p.numel() for b in old for p in b.parameters())
    count = sum(p.numel() for p in model.parameters())
    assert sum(p.numel() for p in grown.parameters()) == count + inside


def test_the_grown_model_runs_the_bases_blocks_along_the_order(model):
    order = [0, 1, 2, 1, 2]
    with Stack.of(model).path(order):
        expected = logits(model)
    assert torch.equal(logits(stacked(model, order)), expected)
    assert torch.equal(logits(stacked(model, range(3))), logits(model))


@pytest.mark.parametrize("order", [interleaved_order(3, 2), stack_order(3, 2)])
def test_identity_blocks_keep_the_function_exactly(model, order):
    assert torch.equal(logits(with_identity_blocks(model, order)), logits(model))


@pytest.mark.parametrize("name", OTHERS)
def test_identity_blocks_keep_the_function_of_every_family(name):
    model = other(name)
    grown = with_identity_blocks(model, interleaved_order(3, 2))
    assert torch.equal(logits(grown), logits(model))


def test_a_block_that_writes_in_a_way_that_is_not_known_is_refused():
    model = llama()
    model.model.layers[1].mlp.register_forward_hook(lambda module, inputs, output: output + 1)
    with pytest.raises(ModelError, match="block 3 still adds to the stream"):
        with_identity_blocks(model, interleaved_order(3, 2))


def test_only_the_output_projections_of_identity_blocks_learn_at_first():
    grown = with_identity_blocks(llama(), interleaved_order(3, 2))
    grown(input_ids=IDS, labels=IDS).loss.backward()
    block = Stack.of(grown).blocks[1]
    ends = {id(p) for p in output_projections(block).values()}
    for name, parameter in block.named_parameters():
        moved = bool(parameter.grad.abs().sum() > 0)
        assert moved == (id(parameter) in ends), name


def test_random_blocks_fade_in(model):
    grown = with_random_blocks(model, 5, seed=1)
    plain = logits(grown)
    mask = Masked(grown, [3, 4], c=0.0)
    assert torch.equal(logits(grown), logits(model))
    mask.c = 1.0
    assert torch.equal(logits(grown), plain)
    mask.c = 0.5
    assert not torch.equal(logits(grown), plain)
    mask.remove()
    assert torch.equal(logits(grown), plain)
    first, second = (with_random_blocks(model, 5, seed=s) for s in (1, 2))
    assert torch.equal(logits(first), plain) and not torch.equal(logits(second), plain)


def test_a_tied_block_is_refused():
    model = llama()
    layers = model.model.layers
    layers[2].mlp.up_proj.weight = layers[0].mlp.up_proj.weight
    with pytest.raises(ModelError, match="blocks 0 and 2 share weights"):
        stacked(model, stack_order(3, 2))


class Plain(nn.Module):
    def __init__(self, before, after):
        super().__init__()
        self.first, self.second = nn.Linear(before, 20), nn.Linear(20, after)

    def forward(self, x):
        return self.second(self.first(x).relu())


def test_blocks_of_a_plain_network_stack_where_their_width_stays():
    network = nn.Sequential(Plain(8, 8), Plain(8, 8))
    x = torch.randn(3, 8)
    assert torch.equal(stacked(network, stack_order(2, 2))(x), network(network(x)))
    changing = nn.ModuleList([Plain(8, 8), Plain(8, 16)])
    with pytest.raises(ModelError, match="block 1 maps 8 to 16: only blocks of equal width"):
        stacked(changing, stack_order(2, 2))


# ---- width


@pytest.mark.parametrize("name", LIKE_LLAMA)
def test_width_keeps_the_function_of_models_like_llama(name):
    model = other(name).double()
    expected = logits(model)
    for grown in (
        widened(model, 64, split="uneven"), widened_with_zeros(model, 64),
        widened_with_zeros(model, 48),
    ):  # fmt: skip
        assert torch.allclose(logits(grown), expected, atol=1e-5)


@pytest.mark.parametrize("name", sorted(set(OTHERS) - set(LIKE_LLAMA)))
def test_width_refuses_models_that_it_would_get_wrong(name):
    model = other(name)
    for grow in (widened, widened_with_zeros, widened_at_random):
        with pytest.raises(ModelError, match="width growth"):
            grow(model, 64)


def test_a_wider_model_keeps_its_precision_and_how_it_generates():
    model = llama().to(torch.bfloat16)
    model.model.rotary_emb = llama().model.rotary_emb  # as transformers loads it: in float32
    model.generation_config.repetition_penalty = 1.5
    for grown in (widened(model, 64), widened_with_zeros(model, 48)):
        assert {p.dtype for p in grown.parameters()} == {torch.bfloat16}
        assert grown.model.rotary_emb.inv_freq.dtype == torch.float32
        assert grown.generation_config.repetition_penalty == 1.5


@pytest.mark.parametrize("tied", [True, False])
@pytest.mark.parametrize(("cls", "config"), [(LlamaForCausalLM, LlamaConfig),
                                             (Qwen2ForCausalLM, Qwen2Config)])  # fmt: skip
@pytest.mark.parametrize("grow", [
    lambda m: widened(m, 64), lambda m: widened(m, 64, split="uneven"),
    lambda m: widened_with_zeros(m, 64), lambda m: widened_with_zeros(m, 48),
])  # fmt: skip
def test_copies_of_all_coordinates_and_zeros_keep_the_function(tied, cls, config, grow):
    model = llama(tied, cls, config).double()
    grown = grow(model)
    assert torch.allclose(logits(grown), logits(model), atol=1e-5)
    assert grown.config.hidden_size == grown.model.embed_tokens.embedding_dim > 32


def test_copies_of_some_coordinates_do_not():
    model = llama()
    assert not torch.allclose(logits(widened(model, 48)), logits(model), atol=1e-3)


def test_uneven_copies_differ_from_each_other():
    grown = widened(llama(), 64, split="uneven")
    read = grown.model.layers[0].mlp.up_proj.weight
    assert not torch.allclose(read[:, :32], read[:, 32:])


def test_random_coordinates_fade_in():
    model = llama()
    grown = widened_at_random(model, 48, seed=1)
    plain = logits(grown)
    mask = WidthMask(grown, spaces_of(model.config, 48))
    assert torch.allclose(logits(grown), logits(model), atol=1e-5)
    mask.c = 1.0
    assert torch.equal(logits(grown), plain)
    mask.remove()
    assert not grown.model.layers[0].mlp.up_proj._forward_hooks


def test_a_width_without_whole_heads_is_refused():
    with pytest.raises(KnobError, match="whole heads of 2 key heads at 32; take a multiple of 16"):
        widened(llama(), 40)
    with pytest.raises(KnobError, match="above the model's 32"):
        widened(llama(), 32)


def test_a_model_of_another_form_is_refused():
    with pytest.raises(ModelError, match="Llama-like"):
        widened(neox(), 64)


# ---- learned


def test_learned_growth_begins_as_g_stack():
    model = llama()
    order = stack_order(3, 2)
    growth = LearnedGrowth(model, order)
    with torch.no_grad():
        assert torch.equal(growth(input_ids=IDS).logits, logits(stacked(model, order)))
    assert torch.equal(logits(learned(model, [], order, steps=0)), logits(stacked(model, order)))


@pytest.mark.parametrize("width", [None, 64])
def test_learned_growth_moves_to_a_device_as_one(width):
    growth = LearnedGrowth(llama(), stack_order(3, 2), width).to("meta")
    assert growth(input_ids=IDS.to("meta")).logits.shape == (2, 9, 50)


@pytest.mark.parametrize("width", [None, 64])
def test_learned_growth_lowers_the_loss_and_leaves_the_base_alone(width):
    model, data = llama(), batches()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    growth = LearnedGrowth(model, stack_order(3, 2), width)
    start = sum(growth(**batch).loss.item() for batch in data)
    grown = learned(model, data, stack_order(3, 2), width, steps=40, lr=1e-2)
    with torch.no_grad():
        assert sum(grown(**batch).loss.item() for batch in data) < start - 0.1
    for name, value in model.state_dict().items():
        assert torch.equal(value, before[name])
    assert all(p.grad is None and p.requires_grad for p in model.parameters())
    assert all(p.requires_grad for p in grown.parameters())


# ---- noise, optimizer, transform


def test_noise_mixes_with_the_initialisation():
    model = llama()
    same = stacked(model, stack_order(3, 2))
    add_noise(same, 0.0)
    assert torch.equal(logits(same), logits(stacked(model, stack_order(3, 2))))
    torch.manual_seed(0)
    wide = LlamaForCausalLM(LlamaConfig(vocab_size=50, hidden_size=256, intermediate_size=512,
                                        num_hidden_layers=2, num_attention_heads=4))  # fmt: skip
    add_noise(wide, 1.0, seed=1)
    layer = wide.model.layers[0]
    assert layer.mlp.up_proj.weight.std().item() == pytest.approx((2 / (5 * 256)) ** 0.5, rel=0.02)
    assert layer.self_attn.o_proj.weight.std().item() == pytest.approx(1 / (16 * 2), rel=0.02)
    assert (layer.input_layernorm.weight == 1).all()
    with pytest.raises(KnobError, match=r"noise must be in \[0, 1\], got 1.5"):
        add_noise(wide, 1.5)


def test_the_optimizers_moments_go_along():
    model = llama()
    old = torch.optim.AdamW(model.parameters())
    model(input_ids=IDS, labels=IDS).loss.backward()
    old.step()
    order = stack_order(3, 2)
    grown = stacked(model, order)
    new = torch.optim.AdamW(grown.parameters())
    grow_optimizer_state(old, new, model, grown, order)
    source = model.model.layers[1].mlp.up_proj.weight
    for place in (1, 4):
        target = grown.model.layers[place].mlp.up_proj.weight
        assert torch.equal(new.state[target]["exp_avg"], old.state[source]["exp_avg"])
        assert new.state[target]["exp_avg"] is not old.state[source]["exp_avg"]
    assert len(new.state) == len(list(grown.parameters()))
    grown(input_ids=IDS, labels=IDS).loss.backward()
    new.step()


def test_moments_do_not_go_along_in_width():
    model = llama()
    old = torch.optim.AdamW(model.parameters())
    grown = widened(model, 64)
    with pytest.raises(ModelError, match="only where the depth grows"):
        grow_optimizer_state(old, torch.optim.AdamW(grown.parameters()), model, grown, range(3))
    with pytest.raises(ModelError, match="order has 2 places"):
        grow_optimizer_state(old, torch.optim.AdamW(grown.parameters()), model, grown, [0, 1])


@pytest.mark.parametrize("knobs", [
    {}, {"operator": "zero"}, {"operator": "random"}, {"operator": "learned", "learn_steps": 2},
    {"axis": "width"}, {"axis": "width", "operator": "zero"}, {"order": "12*2-3", "noise": 0.1},
    {"axis": "width", "operator": "learned", "learn_steps": 2}, {"order": [0, 0, 2]},
    {"axis": "width", "operator": "random"}, {"order": "interleave", "factor": 3},
])  # fmt: skip
def test_what_comes_out_is_kept_generates_and_looks_at_no_future(knobs, tmp_path):
    model = llama()
    grown = gstack(model, batches(), **knobs)
    grown.save_pretrained(tmp_path)
    again = AutoModelForCausalLM.from_pretrained(tmp_path).eval()
    assert torch.equal(logits(again), logits(grown))
    assert again.config.tie_word_embeddings
    cached = again.generate(IDS[:1], max_new_tokens=5, do_sample=False, pad_token_id=0)
    plain = again.generate(IDS[:1], max_new_tokens=5, do_sample=False, pad_token_id=0,
                           use_cache=False)  # fmt: skip
    assert torch.equal(cached, plain)
    changed = IDS.clone()
    changed[:, -1] = (changed[:, -1] + 1) % 50
    assert torch.allclose(logits(again)[:, :-1], logits(again, changed)[:, :-1], atol=1e-6)


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({"operator": "learned"}, "give data"),
        ({"factor": 0}, "factor"),
        ({"operator": "random", "order": "interleave"}, "on top of the model's own"),
        ({"axis": "width", "order": "12*2-3"}, "leave order as it is"),
        ({"order": "nonsense"}, "no run of blocks"),
    ],
)
def test_knobs_that_do_not_go_together_are_refused(given, words):
    with pytest.raises(KnobError, match=words):
        gstack(llama(), **given)


def test_a_saved_model_grows_from_files_to_files(tmp_path, monkeypatch):
    torch.manual_seed(0)
    small = LlamaConfig(
        vocab_size=64, hidden_size=32, intermediate_size=48, num_hidden_layers=2,
        num_attention_heads=2,
    )  # fmt: skip
    LlamaForCausalLM(small).to(torch.bfloat16).save_pretrained(tmp_path / "base")
    opened = gstack(AutoModelForCausalLM.from_pretrained(tmp_path / "base"), factor=3)

    def never(*_):
        raise AssertionError("the weights were opened")

    with monkeypatch.context() as closed:
        closed.setattr("stackwise.runs.derive._opened_model", never)
        derive_run("transform", "gstack", tmp_path / "base", out=tmp_path / "run",
                   knobs={"factor": 3})  # fmt: skip
        with pytest.raises(KnobError, match="order names layer 6"):
            derive_run("transform", "gstack", tmp_path / "base", out=tmp_path / "no",
                       knobs={"order": "1-7"})  # fmt: skip
    grown = load(tmp_path / "run")
    assert len(grown.model.layers) == 6
    ours, theirs = grown.state_dict(), opened.float().state_dict()
    assert all(torch.equal(ours[name], theirs[name]) for name in theirs)
    on_disk = AutoModelForCausalLM.from_pretrained(tmp_path / "run" / "model")
    assert on_disk.dtype == torch.bfloat16  # as it was, and half of what float32 takes
    # a run is a model too; other operators open it
    for knobs in ({"factor": 2}, {"factor": 2, "operator": "zero"}):
        out = tmp_path / f"again-{len(knobs)}"
        derive_run("transform", "gstack", tmp_path / "run", out=out, knobs=knobs)
        assert len(load(out).model.layers) == 12


@pytest.mark.parametrize(
    ("text", "order"),
    [
        ("stack", [0, 1, 2, 0, 1, 2]), ("interleave", [0, 0, 1, 1, 2, 2]),
        ("1..2*2-2", [0, 1, 0, 1, 1]), ("12-2*2", [0, 1, 1, 1]), ("0,1,1", [0, 1, 1]),
        ("[1, 0]", [1, 0]),
    ],
)  # fmt: skip
def test_every_way_to_write_an_order_can_be_typed(text, order):
    read = card("gstack").entry("transform").check({"order": text}, texts=True)["order"]
    assert source_blocks(llama(), read, 2) == order
