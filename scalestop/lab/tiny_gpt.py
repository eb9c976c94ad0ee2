"""A small GPT for Lightning, sized by a parameter count.

It is meant for experiments about scale: one architecture whose size is a number, a learning rate that follows from the
size, and a loss in nats per token, so that runs of different sizes can be held against each other.
"""

from __future__ import annotations

import math
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from scalestop.errors import InputError
from scalestop.lab.dims import GPTDims, dims_for
from scalestop.lightning import ComputeOptimalStopping
from scalestop.lightning.namespace import namespace
from scalestop.schedules.budget_lr import BudgetLR, Shape, check_shares, describe_shares

pl: Any = namespace()

_EMBEDDING_STD = 0.1
_ROTARY_BASE = 1_000.0
_LR_TOKENS = 640


def default_lr(width: int, tokens_per_step: int = _LR_TOKENS) -> float:
    """AdamW's peak learning rate for a `TinyGPT`: 0.2 / width · (tokens_per_step / 640)^0.2.

    Inverse to the width, as maximal-update parametrisation has it for hidden matrices under Adam (Yang et al. 2022,
    arXiv 2203.03466). Growing with the batch, but far more slowly than its root: measured on the standard library at
    widths 12 to 64 and batches of 1 to 13 windows of 128 bytes, the best rate times the width grows by batch^0.14 to
    batch^0.2. A factor of two off costs 0.03 nats. See `examples/stdlib_ladder.md`.

    Args:
        width: Channels of the residual stream.
        tokens_per_step: Tokens of an optimizer step, over all ranks.
    """
    return 0.2 / width * (tokens_per_step / _LR_TOKENS) ** 0.2


WEIGHT_DECAY = 0.1
"""AdamW's weight decay where none is given."""


class TinyGPT(pl.LightningModule):
    """A decoder-only transformer: pre-norm, rotary positions, causal SDPA, GELU MLP of four times the width, no biases.

    Say how large it is in one of two ways: by `num_params` (the dims then come from `dims_for`), or by `width`, `depth`
    and `num_heads`. Both at once is an error. With neither it has about 45,000 parameters.

    It trains on batches `{"input_ids": [batch, time], "labels": [batch, time]}` of `int64`, where `labels[b, t]` is the
    token that follows `input_ids[b, t]` (labels of -100 do not count), and logs `train_loss` and `val_loss` in nats
    per token.

    Args:
        num_params: Total parameters wanted, tied weights counted once. `dims.num_params` is what it came to.
        width: Channels of the residual stream.
        depth: Number of blocks.
        num_heads: Attention heads in each block.
        tied: Whether the output head is the embedding table itself.
        vocab_size: Number of token values; 256 for bytes.
        lr: Peak learning rate of AdamW; None takes `default_lr`, with the batch of a datamodule that has
            `tokens_per_batch`, as `TextData` does.
        weight_decay: AdamW's weight decay on matrices; norms have none.
        warmup: Share of the run in which the rate rises to its peak; see `BudgetLR`. The run's end is where
            `ComputeOptimalStopping` will stop it; without that callback the rate stays at its peak.
        decay: Share of the run, at its end, in which the rate falls. With `warmup` and `decay` 0 it stays at its peak.
        decay_shape: How it falls: `linear`, `1-sqrt`, `cosine` or `square`.
        floor: Where it ends, as a share of the peak.

    Raises:
        InputError: If two sizes are given, half of one, or one that no model can have.
    """

    def __init__(
        self,
        num_params: int | None = None,
        width: int | None = None,
        depth: int | None = None,
        num_heads: int | None = None,
        tied: bool = True,
        vocab_size: int = 256,
        lr: float | None = None,
        weight_decay: float = WEIGHT_DECAY,
        warmup: float = 0.1,
        decay: float = 0.5,
        decay_shape: Shape = "linear",
        floor: float = 0.0,
    ) -> None:
        super().__init__()
        self.save_hyperparameters()
        explicit = {"width": width, "depth": depth, "num_heads": num_heads}
        self.dims = _choose_dims(num_params, explicit, tied, vocab_size)
        self._lr_by_rule = lr is None
        self.lr = default_lr(self.dims.width) if lr is None else lr
        if not (self.lr > 0 and math.isfinite(self.lr)):
            raise InputError(f"lr is {self.lr}; it must be positive and finite, or None for the rule by size")
        check_shares(warmup, decay, decay_shape, floor)
        self.weight_decay = weight_decay
        self.warmup, self.decay, self.decay_shape, self.floor = warmup, decay, decay_shape, floor

        dims = self.dims
        self.embedding = nn.Embedding(dims.vocab_size, dims.width)
        self.blocks = nn.ModuleList(_Block(dims.width, dims.num_heads) for _ in range(dims.depth))
        self.norm = nn.LayerNorm(dims.width, bias=False)
        self.head = nn.Linear(dims.width, dims.vocab_size, bias=False)
        if tied:
            self.head.weight = self.embedding.weight
        self._init_weights()

    def _init_weights(self) -> None:
        # 0.1 and not the usual 0.02: at these widths a smaller embedding is drowned by what the blocks add to it, and
        # a run of 1e11 FLOPs ends 0.18 nats worse (measured at 33k parameters).
        nn.init.normal_(self.embedding.weight, std=_EMBEDDING_STD)
        if self.head.weight is not self.embedding.weight:
            nn.init.normal_(self.head.weight, std=0.02)
        for name, linear in self.blocks.named_modules():
            if isinstance(linear, nn.Linear):
                # What writes to the residual stream is scaled down, so that the sum does not grow with depth (GPT-2).
                writes = name.endswith(("attention_out", "down"))
                scale = (2 * self.dims.depth) ** -0.5 if writes else 1.0
                nn.init.normal_(linear.weight, std=scale * linear.in_features**-0.5)

    def forward(self, input_ids: Tensor) -> Tensor:
        """Logits for the next token.

        Args:
            input_ids: Tokens, `int64 [batch, time]`.

        Returns:
            Unnormalised log-probabilities, `[batch, time, vocab_size]`.
        """
        # Not kept between calls: it is a few microseconds' work, and a tensor kept from validation, which runs in
        # inference mode, could not be trained with.
        rotation = _rotary_angles(input_ids.shape[1], self.dims.width // self.dims.num_heads, input_ids.device)
        hidden = self.embedding(input_ids)
        for block in self.blocks:
            hidden = block(hidden, rotation)
        return self.head(self.norm(hidden))

    def loss(self, batch: dict[str, Tensor]) -> Tensor:
        """Mean cross-entropy of a batch in nats per token, a scalar."""
        logits = self(batch["input_ids"])
        return F.cross_entropy(logits.flatten(0, 1), batch["labels"].flatten())

    def training_step(self, batch: dict[str, Tensor], batch_idx: int) -> Tensor:
        """One batch's loss in nats per token, logged as `train_loss`."""
        loss = self.loss(batch)
        self.log("train_loss", loss, prog_bar=True, batch_size=len(batch["input_ids"]))
        return loss

    def validation_step(self, batch: dict[str, Tensor], batch_idx: int) -> None:
        """Log `val_loss`: the mean over all validation tokens, in nats per token."""
        self.log("val_loss", self.loss(batch), prog_bar=True, sync_dist=True, batch_size=len(batch["input_ids"]))

    def configure_optimizers(self) -> Any:
        """AdamW with betas (0.9, 0.95), and `BudgetLR` where the end of the run is known."""
        groups = [
            {"params": [weight for weight in self.parameters() if weight.ndim >= 2], "weight_decay": self.weight_decay},
            {"params": [weight for weight in self.parameters() if weight.ndim < 2], "weight_decay": 0.0},
        ]
        if self._lr_by_rule:
            self.lr = default_lr(self.dims.width, self._tokens_per_step())
        optimizer = torch.optim.AdamW(groups, lr=self.lr, betas=(0.9, 0.95), fused=True)
        if self.warmup == self.decay == 0:
            return optimizer
        if not any(isinstance(callback, ComputeOptimalStopping) for callback in self.trainer.callbacks):
            return optimizer  # nobody knows where the run ends
        schedule = BudgetLR(optimizer, self.warmup, self.decay, self.decay_shape, self.floor)
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": schedule, "interval": "step"}}

    @staticmethod
    def describe_optimizer(weight_decay: float) -> str:
        """Return in words what trains the model."""
        return f"AdamW, betas 0.9 and 0.95, weight decay {weight_decay:g} on matrices"

    @property
    def provenance(self) -> dict[str, str | int]:
        """How the run is trained, as fields of a `Provenance`; a plan says where its law's runs had another recipe."""
        return {
            "model": f"{TinyGPT.__module__}.{TinyGPT.__qualname__}",
            "optimizer": self.describe_optimizer(self.weight_decay),
            "schedule": describe_shares(self.warmup, self.decay),
        }

    def _tokens_per_step(self) -> int:
        """Tokens of an optimizer step where the data say how many a batch has, else those that the rule is made for."""
        try:
            trainer = self.trainer
        except RuntimeError:  # no Trainer yet
            return _LR_TOKENS
        per_batch = getattr(getattr(trainer, "datamodule", None), "tokens_per_batch", None)
        if per_batch is None:
            return _LR_TOKENS
        return int(per_batch) * trainer.world_size * trainer.accumulate_grad_batches


class _Block(nn.Module):
    """Attention, then MLP, each reading a normed copy of the residual stream and adding to it."""

    def __init__(self, width: int, num_heads: int) -> None:
        super().__init__()
        self.num_heads = num_heads
        self.attention_norm = nn.LayerNorm(width, bias=False)
        self.qkv = nn.Linear(width, 3 * width, bias=False)
        self.attention_out = nn.Linear(width, width, bias=False)
        self.mlp_norm = nn.LayerNorm(width, bias=False)
        self.up = nn.Linear(width, 4 * width, bias=False)
        self.down = nn.Linear(4 * width, width, bias=False)

    def forward(self, hidden: Tensor, rotation: Tensor) -> Tensor:
        batch, time, width = hidden.shape
        heads = self.qkv(self.attention_norm(hidden)).view(batch, time, 3 * self.num_heads, -1)
        query_key, value = heads.split((2 * self.num_heads, self.num_heads), dim=2)
        query, key = _rotate(query_key, rotation).split(self.num_heads, dim=2)
        mixed = F.scaled_dot_product_attention(
            query.transpose(1, 2), key.transpose(1, 2), value.transpose(1, 2), is_causal=True
        )
        hidden = hidden + self.attention_out(mixed.transpose(1, 2).reshape(batch, time, width))
        return hidden + self.down(F.gelu(self.up(self.mlp_norm(hidden))))


def _rotary_angles(length: int, head_width: int, device: torch.device) -> Tensor:
    """Unit complex numbers, `[length, 1, head_width / 2]`: the turn of each channel pair at each position."""
    frequencies = _ROTARY_BASE ** (-torch.arange(0, head_width, 2, device=device) / head_width)
    angles = torch.arange(length, device=device)[:, None, None] * frequencies
    return torch.polar(torch.ones_like(angles), angles)


def _rotate(heads: Tensor, rotation: Tensor) -> Tensor:
    """Turn neighbouring channels by an angle that grows with the position: `[batch, time, heads, channels]`."""
    # One complex product is one pass over memory where sines and cosines would take six: on a CPU it shows.
    pairs = torch.view_as_complex(heads.float().unflatten(-1, (-1, 2)).contiguous())
    return torch.view_as_real(pairs * rotation).flatten(-2).to(heads.dtype)


def _choose_dims(num_params: int | None, explicit: dict[str, int | None], tied: bool, vocab_size: int) -> GPTDims:
    given = {name: value for name, value in explicit.items() if value is not None}
    if num_params is not None and given:
        raise InputError(
            f"num_params {num_params} and {', '.join(f'{name} {given[name]}' for name in given)} both say how large "
            "the model is; give num_params alone, or width, depth and num_heads"
        )
    if not given:
        return dims_for(45_000 if num_params is None else num_params, tied, vocab_size)
    if missing := ", ".join(name for name in explicit if name not in given):
        raise InputError(f"{missing} missing beside {', '.join(given)}; give all three, or num_params alone")
    return GPTDims(**given, tied=tied, vocab_size=vocab_size)
