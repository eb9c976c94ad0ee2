"""`scalestop.huggingface.ComputeOptimalStopping` in the real Trainer of transformers, on tiny models."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
import pytorch_lightning as pl
import torch
from toys import LAW, environment

import scalestop
from scalestop import InputError, RunRecord, StopReason

transformers = pytest.importorskip("transformers")
pytest.importorskip("accelerate")
from scalestop.huggingface import ComputeOptimalStopping  # noqa: E402

VOCAB, LENGTH = 64, 16


def gpt2(**changes):
    config = dict(vocab_size=VOCAB, n_positions=LENGTH, n_embd=16, n_layer=1, n_head=2, resid_pdrop=0.0)
    return transformers.GPT2LMHeadModel(transformers.GPT2Config(**{**config, **changes}))


def llama():
    sizes = dict(vocab_size=VOCAB, hidden_size=16, intermediate_size=32, num_hidden_layers=1, num_attention_heads=2)
    return transformers.LlamaForCausalLM(transformers.LlamaConfig(**sizes, max_position_embeddings=LENGTH))


class Rows(torch.utils.data.Dataset):
    """Rows of different lengths, padded to 16, a first word without a loss."""

    def __init__(self, count=4000, ragged=True):
        generator = torch.Generator().manual_seed(0)
        self.ids = torch.randint(1, VOCAB, (count, LENGTH), generator=generator)
        lengths = (
            torch.randint(4, LENGTH + 1, (count,), generator=generator) if ragged else torch.full((count,), LENGTH)
        )
        self.mask = (torch.arange(LENGTH) < lengths[:, None]).long()

    def __len__(self):
        return len(self.ids)

    def __getitem__(self, index):
        ids, mask = self.ids[index] * self.mask[index], self.mask[index]
        return {"input_ids": ids, "attention_mask": mask, "labels": ids.masked_fill(mask == 0, -100)}


class Unshuffled(transformers.Trainer):
    def _get_train_sampler(self, *args):
        return torch.utils.data.SequentialSampler(self.train_dataset)


def trainer(callback, folder, model=None, data=None, evaluate=None, kind=Unshuffled, **options):
    defaults = dict(
        output_dir=str(folder),
        per_device_train_batch_size=4,
        num_train_epochs=50,
        logging_steps=10,
        save_strategy="no",
        report_to=[],
        use_cpu=True,
        disable_tqdm=True,
        learning_rate=1e-3,
        lr_scheduler_type="constant",
        dataloader_pin_memory=False,
    )
    arguments = transformers.TrainingArguments(**{**defaults, **options})
    data = data if data is not None else Rows()
    return kind(model or gpt2(), arguments, train_dataset=data, eval_dataset=evaluate, callbacks=[callback])


def stopping(budget, **options):
    return ComputeOptimalStopping(
        budget, options.pop("law", LAW), **{"oversized": "ignore", "verbose": False, **options}
    )


class Wrapped(pl.LightningModule):
    """The same model in Lightning."""

    def __init__(self, model):
        super().__init__()
        self.model = model

    def training_step(self, batch, batch_idx):
        return self.model(**batch).loss

    def configure_optimizers(self):
        return torch.optim.SGD(self.parameters(), lr=1e-3)


COUNTS = ("tokens", "tokens_non_padding", "tokens_in_loss", "samples", "flops", "optimizer_steps")


def counts(callback):
    return {name: getattr(callback.usage, name) for name in COUNTS}


@pytest.mark.parametrize(("make", "every"), [(gpt2, 1), (gpt2, 3), (llama, 1)])
def test_it_stops_where_the_lightning_callback_does(tmp_path, make, every):
    here = stopping("3000 tokens")
    ran = trainer(here, tmp_path / "hf", make(), gradient_accumulation_steps=every)
    ran.train()
    there = scalestop.ComputeOptimalStopping("3000 tokens", LAW, oversized="ignore", verbose=False)
    pl.Trainer(
        callbacks=[there],
        max_epochs=-1,
        accelerator="cpu",
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        accumulate_grad_batches=every,
        default_root_dir=tmp_path,
    ).fit(Wrapped(make()), torch.utils.data.DataLoader(Rows(), batch_size=4))
    assert here.plan.num_params == there.plan.num_params == sum(p.numel() for p in make().parameters())
    assert counts(here) == counts(there) and here.stop_reason is there.stop_reason is StopReason.TOKEN_LIMIT
    assert ran.state.global_step == here.usage.optimizer_steps
    seen = Rows().mask[: 4 * every * ran.state.global_step]
    assert here.usage.tokens_non_padding == int(seen.sum()) >= 3000 > int(seen[: -4 * every].sum())
    record = RunRecord.load(tmp_path / "hf" / "scalestop.json")
    assert record.num_tokens == here.usage.tokens_non_padding and record.exact
    assert "mean of the last" in record.loss_name and 0 < record.loss < 10


def test_a_resume_ends_on_the_exact_step(tmp_path):
    whole = stopping("3000 tokens")
    trainer(whole, tmp_path / "whole").train()
    first = stopping("3000 tokens")
    with pytest.warns(scalestop.ScalestopWarning, match="ends the run at step 30"):
        trainer(first, tmp_path / "run", save_strategy="steps", save_steps=20, max_steps=30).train()
    assert first.usage.optimizer_steps == 30
    second = stopping("3000 tokens")
    again = trainer(second, tmp_path / "run", save_strategy="steps", save_steps=20)
    again.train(resume_from_checkpoint=str(tmp_path / "run" / "checkpoint-20"))
    assert counts(second) == counts(whole)
    assert (
        second.checkpoint_path.name == f"checkpoint-{whole.usage.optimizer_steps}" and second.checkpoint_path.exists()
    )
    assert RunRecord.load(second.record_path).run == RunRecord.load(first.record_path).run
    saved = json.loads((second.checkpoint_path / "trainer_state.json").read_text())["stateful_callbacks"]
    assert saved["ComputeOptimalStopping"]["attributes"]["saved"]["exact"] is True


def test_a_checkpoint_without_counts_is_said(tmp_path):
    trainer(transformers.TrainerCallback(), tmp_path, save_strategy="steps", save_steps=5, max_steps=5).train()
    callback = stopping("3000 tokens")
    with pytest.warns(scalestop.ScalestopWarning, match="the checkpoint of step 5 holds no counts"):
        trainer(callback, tmp_path).train(resume_from_checkpoint=str(tmp_path / "checkpoint-5"))
    assert callback.usage.optimizer_steps > 5 and not RunRecord.load(callback.record_path).exact


def test_the_last_validation_is_the_loss_and_metrics_are_logged(tmp_path):
    callback = stopping(2e7, until={"eval_loss": "< 100"})
    ran = trainer(callback, tmp_path, evaluate=Rows(40), eval_strategy="steps", eval_steps=1000)
    callback.report_through(ran)
    ran.train()
    record = RunRecord.load(callback.record_path)
    last = [entry for entry in ran.state.log_history if "eval_loss" in entry][-1]
    assert last["step"] == ran.state.global_step
    assert record.loss_name == "eval_loss" and record.loss == pytest.approx(last["eval_loss"])
    logged = [entry for entry in ran.state.log_history if "scalestop/flops" in entry]
    assert logged and logged[0]["scalestop/flops"] == 6 * callback.plan.num_params * 10 * 4 * LENGTH
    assert callback.usage.tokens == 4 * LENGTH * ran.state.global_step  # validation in no count of training


def test_what_should_not_begin_raises_and_leaves_a_record(tmp_path):
    callback = stopping("1e6 FLOPs", oversized="stop")
    ran = trainer(callback, tmp_path)
    with pytest.raises(InputError, match=r"nothing was trained: MODEL_OVERSIZED: "):
        ran.train()
    assert ran.state.global_step == 0
    assert RunRecord.load(tmp_path / "scalestop.json").stop_reason == "MODEL_OVERSIZED"
    with pytest.raises(InputError, match="leave it False"):
        ComputeOptimalStopping.from_state({})


def test_limits_of_the_trainer_are_said(tmp_path):
    callback = stopping("3000 tokens")
    with pytest.warns(scalestop.ScalestopWarning, match="ends the run at step 7, before the planned stop at step"):
        trainer(callback, tmp_path, max_steps=7).train()
    assert callback.stop_reason is StopReason.NOT_STOPPED


SCRIPT = """
import json, sys
sys.path.insert(0, FOLDER)
from test_huggingface import Rows, counts, stopping, trainer
callback = stopping("6000 tokens")
ran = trainer(callback, sys.argv[1], data=Rows(400), save_strategy="steps", save_steps=10, ddp_backend="gloo")
ran.train()
rank = ran.args.process_index
json.dump([counts(callback), ran.state.global_step], open(f"{sys.argv[1]}-{rank}.json", "w"))
"""


@pytest.mark.slow
def test_two_processes(tmp_path):
    (tmp_path / "main.py").write_text(SCRIPT.replace("FOLDER", repr(str(Path(__file__).parent))))
    # what `accelerate launch` starts on GPUs; on CPUs it wants MPI
    launch = ["-m", "torch.distributed.run", "--standalone", "--nproc_per_node", "2"]
    done = subprocess.run(
        [sys.executable, *launch, "main.py", str(tmp_path / "run")],
        cwd=tmp_path,
        env=environment(),
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    first, second = (json.loads((tmp_path / f"run-{rank}.json").read_text()) for rank in (0, 1))
    assert first == second
    used, steps = first
    assert used["tokens"] == 2 * 4 * LENGTH * steps and used["optimizer_steps"] == steps
    record = RunRecord.load(tmp_path / "run" / "scalestop.json")
    assert record.num_tokens == used["tokens_non_padding"] >= 6000 and record.exact
    saved = json.loads((tmp_path / "run" / "checkpoint-10" / "trainer_state.json").read_text())
    assert saved["stateful_callbacks"]["ComputeOptimalStopping"]["attributes"]["saved"]["exact"] is True


def test_a_run_that_raised_leaves_nothing_behind_for_the_next(tmp_path):
    """transformers tells no callback of an error: the model must not be counted twice, nor a batch be left over."""

    class Breaks(Unshuffled):
        def compute_loss(self, *args, **kwargs):
            loss = super().compute_loss(*args, **kwargs)
            if self.state.global_step == 3 and not hasattr(self, "broken"):
                self.broken = True
                raise RuntimeError("out of memory")
            return loss

    callback = stopping("3000 tokens")
    ran = trainer(callback, tmp_path, kind=Breaks)
    with pytest.raises(RuntimeError, match="out of memory"):
        ran.train()
    ran.train()
    assert callback.usage.tokens == 4 * LENGTH * ran.state.global_step
    assert callback.usage.tokens_non_padding == int(Rows().mask[: 4 * ran.state.global_step].sum())
