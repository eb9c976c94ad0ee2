"""A loop of one's own under watch: the same stop and counts as the callback's on the same batches."""

from __future__ import annotations

import pytest
import torch
from torch import nn
from toys import C_OPT, LAW, LENGTH, PER_BATCH, N, Recount, Toy, loader, stopping, strict_json, train

from scalestop import BudgetLR, InputError, RunRecord, RunTracker, StopReason


class Net(nn.Module):
    """The toy's layers, without Lightning."""

    def __init__(self) -> None:
        super().__init__()
        toy = Toy()
        self.embedding, self.head = toy.embedding, toy.head

    def forward(self, ids):
        return self.head(self.embedding(ids))


def loss_of(net, batch):
    ids, labels = batch if isinstance(batch, (tuple, list)) else (batch["input_ids"], batch["labels"])
    return nn.functional.cross_entropy(net(ids).flatten(0, 1), labels.flatten())


def go(tracker, data, every=1, net=None, optimizer=None, **options):
    """The loop of the documentation; returns the batches that were trained on."""
    net = Net() if net is None else net
    optimizer = optimizer or torch.optim.SGD(net.parameters(), lr=1e-2)
    seen = []
    with tracker.track(net, optimizer, batches_per_step=every, **options):
        while tracker.goes_on:
            for i, batch in enumerate(tracker.batches(data)):
                loss = loss_of(net, batch)
                loss.backward()
                if (i + 1) % every == 0:
                    optimizer.step()
                    optimizer.zero_grad()
                tracker.add_loss(loss)
                seen.append(batch)
    return seen


@pytest.mark.parametrize("budget", ["2500 tokens", 1.05 * C_OPT])
@pytest.mark.parametrize(("ragged", "every"), [(False, 1), (True, 1), (True, 4)])
def test_it_stops_where_the_callback_does(tmp_path, budget, ragged, every):
    options = {"oversized": "ignore", "verbose": False}
    callback = stopping(budget, **options)
    train(callback, tmp_path / "lightning", data=loader(400, ragged=ragged), accumulate_grad_batches=every)
    tracker = RunTracker(budget, LAW, **options)
    seen = go(tracker, loader(400, ragged=ragged), every, folder=tmp_path)
    assert tracker.decision.reason is callback.decision.reason
    assert tracker.plan.stop_step == callback.plan.stop_step
    counts = ("tokens", "tokens_non_padding", "tokens_in_loss", "samples", "flops", "optimizer_steps")
    assert {name: getattr(tracker.usage, name) for name in counts} == {
        name: getattr(callback.usage, name) for name in counts
    }
    assert len(seen) == every * tracker.usage.optimizer_steps
    record = strict_json((tmp_path / "scalestop.json").read_text())
    assert record["num_params"] == N and record["usage"]["flops"] == 6 * N * record["usage"]["tokens"]


def test_what_is_logged_saved_and_validated(tmp_path):
    logged, saved = [], []

    def save(what):
        saved.append(what)
        return tmp_path / f"{what}.pt"

    tracker = RunTracker(1.05 * C_OPT, LAW, until={"val_loss": "< 10"}, verbose=False)
    net = Net()
    optimizer = torch.optim.SGD(net.parameters(), lr=1e-2)
    schedule = BudgetLR(optimizer, decay=0.5, floor=0.1)
    with tracker.track(
        net, optimizer, scheduler=schedule, folder=tmp_path, log=logged.append, log_every=10, save=save, seed=3
    ):
        for step, batch in enumerate(tracker.batches(loader())):
            loss_of(net, batch).backward()
            optimizer.step()
            schedule.step()
            optimizer.zero_grad()
            if step == 20:
                tracker.add_validation(2.5, accuracy=0.1)
    assert saved == ["stop"] and tracker.checkpoint_path == tmp_path / "stop.pt"
    assert [values["scalestop/tokens"] for values in logged] == [PER_BATCH * 10 * (i + 1) for i in range(7)]
    record = RunRecord.load(tracker.record_path)
    assert (record.loss, record.loss_name, record.seed) == (2.5, "val_loss", 3)
    assert record.lr_final_share == pytest.approx(0.1, abs=0.02)
    assert tracker.stop_reason is StopReason.COMPUTE_OPTIMAL


@pytest.mark.filterwarnings("ignore:.*the loader repeats itself")  # it begins anew
def test_a_saved_run_goes_on_to_the_exact_step(tmp_path):
    whole = RunTracker(1.05 * C_OPT, LAW, verbose=False)
    go(whole, loader())
    first = RunTracker(1.05 * C_OPT, LAW, verbose=False)
    net = Net()
    optimizer = torch.optim.SGD(net.parameters(), lr=1e-2)
    states = []

    def breaks():
        with first.track(net, optimizer, folder=tmp_path):
            for step, batch in enumerate(first.batches(loader())):
                loss_of(net, batch).backward()
                optimizer.step()
                if step == 30:
                    states.append(first.state_dict())
                    raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        breaks()
    assert RunRecord.load(tmp_path / "scalestop.json").stop_reason == "NOT_STOPPED"
    second = RunTracker(1.05 * C_OPT, LAW, verbose=False)
    go(second, loader(), state=states[0], folder=tmp_path)
    assert second.usage.optimizer_steps == whole.usage.optimizer_steps and second.usage.tokens == whole.usage.tokens
    assert second.watch is not first.watch and len(list(tmp_path.glob("*.json"))) == 1


def test_an_oversized_model_gets_no_batch_and_bad_settings_are_refused():
    tracker = RunTracker(C_OPT / 1000, LAW, verbose=False)
    assert go(tracker, loader()) == [] and tracker.stop_reason is StopReason.MODEL_OVERSIZED
    with pytest.raises(InputError, match="batches_per_step: at least 1"):
        go(tracker, loader(), every=0)
    with pytest.raises(InputError, match="tolerance"):
        RunTracker(C_OPT, LAW, tolerance="x")


def test_a_compiled_model_is_the_model():
    net = Net()
    tracker = RunTracker("640 tokens", LAW, oversized="ignore", verbose=False)
    compiled = torch.compile(net, backend="eager")
    go(tracker, loader(), net=compiled, optimizer=torch.optim.SGD(net.parameters(), lr=1e-2))
    assert tracker.plan.num_params == N and tracker.usage.tokens == 640


def test_recounted_by_hand():
    tracker = RunTracker("2500 tokens", LAW, oversized="ignore", verbose=False)
    seen = go(tracker, loader(400, ragged=True))
    total = Recount()
    for batch in seen:
        mask = batch["attention_mask"]
        total += Recount(mask.numel(), int(mask.sum()), int((batch["labels"] != -100).sum()), len(mask))
    assert (tracker.usage.tokens, tracker.usage.tokens_non_padding) == (total.tokens, total.non_padding)
    assert total.non_padding >= 2500 and LENGTH > 0


def test_the_last_batch_of_a_loop_that_is_left_counts():
    net, tracker = Net(), RunTracker("1e6 tokens", LAW, oversized="ignore", verbose=False)
    optimizer = torch.optim.SGD(net.parameters(), lr=1e-2)
    with tracker.track(net, optimizer):
        for step, batch in enumerate(tracker.batches(loader()), 1):
            loss_of(net, batch).backward()
            optimizer.step()
            if step == 5:
                break
    assert (tracker.usage.tokens, tracker.usage.optimizer_steps) == (5 * PER_BATCH, 5)
