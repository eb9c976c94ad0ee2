"""Models that nobody here wrote: GPT-2 and a Llama, built from config objects, on padded batches."""

from __future__ import annotations

import math

import pytest
import pytorch_lightning as pl
import torch
from toys import LAW, Recount, assert_counts, loader, stopping, train

from scalestop.planning.rule import StopReason

transformers = pytest.importorskip("transformers")

SMALL = {"vocab_size": 32, "pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 2}


def gpt2():
    config = transformers.GPT2Config(n_embd=8, n_layer=1, n_head=2, n_positions=16, **SMALL)
    return transformers.GPT2LMHeadModel(config)


def llama(tied: bool = False):
    config = transformers.LlamaConfig(
        hidden_size=8,
        intermediate_size=16,
        num_hidden_layers=2,
        num_attention_heads=2,
        num_key_value_heads=1,
        max_position_embeddings=16,
        tie_word_embeddings=tied,
        **SMALL,
    )
    return transformers.LlamaForCausalLM(config)


class Wrapped(pl.LightningModule):
    def __init__(self, model) -> None:
        super().__init__()
        self.model, self.seen = model, Recount()

    def training_step(self, batch, batch_idx):
        self.seen.add(batch)
        loss = self.model(**batch).loss
        self.log("train_loss", loss, batch_size=4)
        return loss

    def configure_optimizers(self):
        return torch.optim.AdamW(self.parameters(), lr=1e-3)


@pytest.mark.parametrize("make", [gpt2, llama, lambda: llama(tied=True)], ids=["gpt2", "llama", "llama-tied"])
def test_real_models_are_counted_and_stopped(tmp_path, make):
    torch.manual_seed(0)
    model = make()
    unique = {id(p): p.numel() for p in model.parameters()}
    num_params = sum(unique.values())
    tokens = 1500
    callback = stopping(f"{tokens} tokens", oversized="ignore")
    trainer = train(callback, tmp_path, Wrapped(model), loader(200, ragged=True))
    seen = trainer.toy.seen
    assert_counts(callback.usage, seen, num_params)
    assert callback.plan.num_params == num_params == callback.params.total
    assert callback.stop_reason is StopReason.TOKEN_LIMIT
    assert tokens <= seen.non_padding < tokens + 4 * 16 and seen.non_padding < seen.tokens
    embedding = model.get_input_embeddings().weight.numel()
    positions = 16 * 8 if make is gpt2 else 0
    assert callback.params.embedding == embedding + positions
    tied = model.get_output_embeddings().weight is model.get_input_embeddings().weight
    assert callback.params.body == num_params - embedding - positions - (0 if tied else embedding)


def test_compute_optimal_stop_of_a_real_model(tmp_path):
    model = gpt2()
    num_params = sum({id(p): p.numel() for p in model.parameters()}.values())
    callback = stopping(3.5 * 96 * num_params**2, tolerance=0.5)  # padding spends some of it
    trainer = train(callback, tmp_path, Wrapped(model), loader(400, ragged=True, batch_size=64))
    assert callback.stop_reason is StopReason.COMPUTE_OPTIMAL
    target = callback.plan.target_tokens
    assert target == math.ceil(LAW.optimal(callback.budget.flops).num_tokens)
    assert target <= trainer.toy.seen.non_padding < target + 64 * 16
