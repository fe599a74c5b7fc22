"""LoRA beside its base: what a fit keeps, who opens it, and what is said where the base is gone."""

import copy
import json
import shutil

import pytest
import torch
from peft import PeftModel
from transformers import AutoModelForCausalLM

from stackwise import runs
from stackwise.adapt import Delta, LoraDelta, base_hash, deltas_on, merge_delta
from stackwise.conformance import small_language_model, small_task
from stackwise.errors import ModelError, RunError
from stackwise.models import open_model, save_model
from stackwise.runs.opening import open_delta, open_reference, split_reference
from stackwise.train.sft_recipe import FineTuned

QUICK = {"recipe": "tulu", "batch_size": 4, "max_epochs": 2, "lr": 3e-3, "remember": "none",
         "lora": 2}  # fmt: skip
INPUTS = {"input_ids": torch.arange(5, 17)[None]}


@pytest.fixture(scope="module")
def task():
    return small_task("instructions")


@pytest.fixture(scope="module")
def base(tmp_path_factory):
    folder = tmp_path_factory.mktemp("model") / "base"
    return str(shutil.copytree(small_language_model(), folder))


@pytest.fixture(scope="module")
def run(task, base, tmp_path_factory):
    out = tmp_path_factory.mktemp("runs") / "run"
    return runs.fit_run("sft-recipe", task, out=out, knobs=QUICK | {"model": base}).folder


@torch.no_grad()
def logits(model):
    return model.eval()(**INPUTS).logits


def same(one, other):
    ours, theirs = one.state_dict(), other.state_dict()
    return ours.keys() == theirs.keys() and all(torch.equal(ours[n], theirs[n]) for n in ours)


def test_a_run_keeps_the_adapter_alone_and_names_its_base(run, base):
    assert not (run / "model").exists() and not (run / "base").exists()
    weights = [path.relative_to(run).as_posix() for path in run.rglob("*.safetensors")]
    assert weights == ["adapter/adapter_model.safetensors"]
    record = json.loads((run / "model.json").read_text())["more"]["base"]
    assert record == {"reference": base, "hash": base_hash(open_model(base))}
    delta = open_delta(run)
    assert isinstance(delta, LoraDelta) and delta.method == "sft-recipe"
    assert delta.base == record["hash"] and delta.knobs["lora"] == 2
    config = json.loads((run / "adapter" / "adapter_config.json").read_text())
    assert config["base_model_name_or_path"] == base and config["task_type"] == "CAUSAL_LM"


def test_what_is_loaded_is_judged_as_it_was(run, task, base):
    kept = runs.load(run)
    assert type(kept.model_).__name__ == "LlamaForCausalLM" and deltas_on(kept) == (kept.delta_,)
    judged = task.judge(kept, "test").scores
    assert judged == runs.Run(run).record["scores"]["test"]
    fitted = FineTuned(model=base, **QUICK, random_state=0).fit(task)
    assert same(fitted.model_, kept.model_)
    prompt = ["say red blue"]
    assert kept.generate(prompt, max_new_tokens=4) == fitted.generate(prompt, max_new_tokens=4)
    kept.delta_.take_off(kept)
    assert same(kept.model_, open_model(base))


def test_peft_opens_the_adapter_of_a_run_and_says_the_same(run, base):
    theirs = PeftModel.from_pretrained(AutoModelForCausalLM.from_pretrained(base), run / "adapter")
    torch.testing.assert_close(logits(theirs), logits(runs.load(run).model_), atol=1e-6, rtol=1e-5)


def test_an_object_that_nobody_could_open_again_is_kept_beside(task, base, tmp_path):
    model = open_model(base)
    with torch.no_grad():
        model.lm_head.weight.mul_(1.01)  # no longer what lies in the folder
    before = copy.deepcopy(model)
    fitted = FineTuned(model=model, **QUICK).fit(task)
    fitted.save(tmp_path / "kept")
    shutil.move(tmp_path / "kept", tmp_path / "moved")
    again = FineTuned.load(tmp_path / "moved")
    assert same(again.model_, fitted.model_)
    assert same(open_model(tmp_path / "moved" / "base"), before) and same(model, before)


def test_a_base_that_moved_or_changed_is_named_with_its_hash(run, base, tmp_path):
    moved = shutil.copytree(run, tmp_path / "run")
    path = moved / "model.json"
    record = json.loads(path.read_text())
    known = record["more"]["base"]["hash"]
    record["more"]["base"]["reference"] = str(tmp_path / "gone")
    path.write_text(json.dumps(record))
    with pytest.raises(RunError, match=f"{tmp_path / 'gone'} with the hash {known}, which") as gone:
        runs.load(moved)
    other = open_model(base)
    with torch.no_grad():
        other.lm_head.weight[0] += 1
    save_model(other, tmp_path / "gone")
    with pytest.raises(RunError, match=f"with the hash {known}, and .* {base_hash(other)}") as now:
        runs.load(moved)
    assert "\n" not in f"{gone.value}{now.value}"
    # wherever the base is, the adapter goes on it
    assert same(open_reference(f"{base}+{moved}"), runs.load(run).model_)


def test_a_base_outside_of_the_folder_is_read_as_data_alone_and_must_have_the_hash(run, tmp_path):
    """An absolute path in a stranger's folder may point anywhere: nothing there is run."""
    moved = shutil.copytree(run, tmp_path / "run")
    path = moved / "model.json"
    ran = tmp_path / "ran"
    code = f"open({str(ran)!r}, 'w').close()\n"
    bait = shutil.copytree(small_language_model(), tmp_path / "bait")
    config = json.loads((bait / "config.json").read_text())
    config["auto_map"] = {"AutoConfig": "bait.Config", "AutoModelForCausalLM": "bait.Model"}
    (bait / "bait.py").write_text(code)

    def refused(reference, said):
        record = json.loads(path.read_text())
        record["more"]["base"]["reference"] = str(reference)
        path.write_text(json.dumps(record))
        with pytest.raises(RunError, match=said) as error:
            runs.load(moved)
        assert "\n" not in str(error.value) and not ran.exists()

    (bait / "config.json").write_text(json.dumps(config | {"model_type": "bait"}))
    refused(bait, "cannot be opened")  # code of its own
    (bait / "config.json").write_text(json.dumps(config))
    (bait / "model.safetensors").unlink()
    (bait / "pytorch_model.bin").write_bytes(b"\x80\x04cposix\nsystem\n(S'touch " +
                                            str(ran).encode() + b"'\ntR.")  # fmt: skip
    refused(bait, "cannot be opened")  # a pickle in place of weights
    refused(moved, "damaged or of another format|cannot be opened")  # itself, without end
    refused(tmp_path, "cannot be opened")  # no model


def test_an_adapter_over_an_adapter(run, task, base, tmp_path):
    second = runs.fit_run(
        "sft-recipe", task, out=tmp_path / "second", knobs=QUICK | {"model": str(run)}
    ).folder
    kept = runs.load(second)
    assert task.judge(kept, "test").scores == runs.Run(second).record["scores"]["test"]
    both = open_reference(f"{base}+{run}+{second}")
    torch.testing.assert_close(logits(both), logits(kept.model_), atol=1e-6, rtol=1e-5)
    assert len(deltas_on(both)) == 2
    with pytest.raises(ModelError, match="was made for a base"):
        open_reference(f"{base}+{second}")


def test_a_run_is_merged_with_its_tokenizer(run, base, tmp_path):
    merge_delta(base, [run], tmp_path / "merged")
    assert same(open_model(tmp_path / "merged"), runs.load(run).model_)
    assert (tmp_path / "merged" / "chat_template.jinja").is_file()


def test_a_run_of_before_with_its_weights_merged_is_opened(task, base, tmp_path):
    FineTuned(model=base, **QUICK | {"lora": None}).fit(task).save(tmp_path)
    path = tmp_path / "model.json"
    record = json.loads(path.read_text())
    record["knobs"]["lora"] = 2
    del record["seal"]  # there was none then
    path.write_text(json.dumps(record))
    assert FineTuned.load(tmp_path).delta_ is None


# ---- MODEL+RUN


def test_a_plus_splits_only_where_no_such_path_is(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for name in ("a+b", "run", "c+d/e+f"):
        (tmp_path / name).mkdir(parents=True)
    for reference, expected in {
        "a+b": ("a+b", []),
        "a+b+run": ("a+b", ["run"]),
        "a+c": ("a", ["c"]),
        "owner/model+run+c+d/e+f": ("owner/model", ["run", "c+d/e+f"]),
        "smollm2-135m": ("smollm2-135m", []),
        f"{tmp_path}/a+b+{tmp_path}/run": (f"{tmp_path}/a+b", [f"{tmp_path}/run"]),
    }.items():
        assert split_reference(reference) == expected
    for reference in ("+run", "a+", "a++run"):
        with pytest.raises(ModelError, match="nothing on one side"):
            split_reference(reference)


def test_a_model_is_opened_with_its_deltas(run, base, tmp_path):
    plain = open_model(base)
    assert same(open_reference(base), plain) and open_reference(plain) is plain
    opened = open_reference(f"{base}+{run}")
    assert same(opened, runs.load(run).model_) and base_hash(opened) == base_hash(plain)
    half = tmp_path / "half"
    (0.5 * Delta.load(run / "adapter")).save(half)
    torch.testing.assert_close(
        logits(open_reference(f"{base}+{run}+{half}")),
        logits((1.5 * open_delta(run)).put(plain)), atol=1e-6, rtol=1e-5,
    )  # fmt: skip
    with pytest.raises(ModelError, match="holds no delta"):
        open_reference(f"{base}+{base}")
    unfinished = shutil.copytree(run, tmp_path / "unfinished")
    record = json.loads((unfinished / "run.json").read_text()) | {"status": "interrupted"}
    (unfinished / "run.json").write_text(json.dumps(record))
    with pytest.raises(RunError, match="is not finished"):
        open_reference(f"{base}+{unfinished}")


def test_a_base_that_only_the_file_names_is_neither_fetched_nor_taken_from_here(
    run, tmp_path, monkeypatch
):
    def no_network(*_, **__):
        raise AssertionError("asked the network")

    monkeypatch.setattr("socket.socket.connect", no_network)
    monkeypatch.setattr("socket.getaddrinfo", no_network)
    monkeypatch.chdir(tmp_path)
    (tmp_path / "other" / "model").mkdir(parents=True)
    moved = shutil.copytree(run, tmp_path / "run")
    path = moved / "model.json"
    for reference, said in (("owner/name", "cannot be opened"), ("other/model", "from here")):
        record = json.loads(path.read_text())
        record["more"]["base"]["reference"] = reference
        path.write_text(json.dumps(record))
        with pytest.raises(RunError, match=said):
            runs.load(moved)
