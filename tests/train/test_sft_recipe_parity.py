"""Step for step beside TRL's own trainer."""

import pytest
import torch

from stackwise.conformance import small_language_model, small_task
from stackwise.models import open_model
from stackwise.train.sft_recipe import FineTuned
from stackwise.training.batches import epoch_generator

pytestmark = [pytest.mark.slow, pytest.mark.filterwarnings("ignore")]
SEED = 3
KNOBS = {"batch_size": 6, "lr": 3e-3, "schedule": "constant", "warmup": 0.0, "max_epochs": 1,
         "remember": "none", "random_state": SEED}  # fmt: skip


def trained_by_trl(folder, model, tokenizer, samples):
    """SFTTrainer over the samples in this order: two at a time, three times a step."""
    datasets, trl = pytest.importorskip("datasets"), pytest.importorskip("trl")

    class InOrder(trl.SFTTrainer):
        def _get_train_sampler(self, *given):
            return torch.utils.data.SequentialSampler(self.train_dataset)

    rows = [{"input_ids": list(one.ids), "labels": list(one.labels)} for one in samples]
    settings = trl.SFTConfig(
        output_dir=str(folder), per_device_train_batch_size=2, gradient_accumulation_steps=3,
        learning_rate=KNOBS["lr"], lr_scheduler_type="constant", warmup_steps=0,
        num_train_epochs=1, weight_decay=0.0, max_grad_norm=1.0, logging_steps=1,
        save_strategy="no", report_to=[], use_cpu=True, bf16=False, disable_tqdm=True,
        gradient_checkpointing=False, max_length=None,
        dataset_kwargs={"skip_prepare_dataset": True}, dataloader_pin_memory=False,
    )  # fmt: skip
    trainer = InOrder(
        model=model, args=settings, train_dataset=datasets.Dataset.from_list(rows),
        processing_class=tokenizer,
    )  # fmt: skip
    trainer.train()
    return [line for line in trainer.state.log_history if "grad_norm" in line]


@pytest.fixture(scope="module")
def theirs(tmp_path_factory):
    task = small_task("instructions")
    tokenizer = FineTuned(model=small_language_model(), **KNOBS).fit(task).tokenizer_
    tokenizer.pad_token = tokenizer.eos_token
    samples = task.encoded("train", tokenizer)
    order = torch.randperm(len(samples), generator=epoch_generator(SEED, 0)).tolist()
    model = open_model(small_language_model()).train()
    folder = tmp_path_factory.mktemp("trl")
    return model, trained_by_trl(folder, model, tokenizer, [samples[i] for i in order])


@pytest.mark.parametrize("packed", [True, False])
def test_losses_norms_and_weights_are_those_of_trls_trainer(packed, theirs):
    ours = FineTuned(model=small_language_model(), packed=packed, **KNOBS)
    ours.fit(small_task("instructions"))
    model, lines = theirs
    curve = torch.tensor(ours.monitor_.rows)
    assert len(lines) == len(curve) == 4  # the last step has fewer samples
    for column, name in ((1, "loss"), (2, "grad_norm")):
        logged = torch.tensor([float(line[name]) for line in lines])
        torch.testing.assert_close(curve[:, column].float(), logged, atol=1e-4, rtol=1e-4)
    for one, other in zip(ours.model_.parameters(), model.parameters(), strict=True):
        torch.testing.assert_close(one, other, atol=1e-5, rtol=1e-4)
