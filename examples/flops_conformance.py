"""FLOPs per token of thirteen published architectures, by six ways of counting; nothing is downloaded or computed.

    python examples/flops_conformance.py        # minutes; writes flops_conformance.csv and the table of the page

The models are built from `transformers` configs on the meta device, at their real size. What the columns mean, and why
they differ, is told in flops_conformance.md.
"""

from __future__ import annotations

import csv
import sys
import warnings
from collections.abc import Callable, Iterable
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import torch
import transformers
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from scalestop import InputError, count_params
from scalestop.accounting.attention import attention_dims
from scalestop.accounting.flops import flops_per_token, six_n

HERE = Path(__file__).parent
CONTEXT = 2048


@dataclass(frozen=True)
class Row:
    """One model. FLOPs are per token, forward and backward; None where a convention has no formula for it."""

    model: str
    total: int
    active: int
    context: int
    six_n: int
    six_n_attention: int | None
    measured: int
    counter: int
    palm: int | None
    torchtitan: int | None
    hugging_face: int


def causal(name: str, context: int = CONTEXT, **config: Any) -> tuple[Callable[[], Any], dict[str, Any], int]:
    """A decoder on one sequence: how to build it, its batch, and the tokens in that."""
    ids = torch.zeros(1, context, dtype=torch.long)
    make = getattr(transformers, f"{name}ForCausalLM", None) or getattr(transformers, f"{name}LMHeadModel")
    return lambda: make(getattr(transformers, f"{name}Config")(**config)), {"input_ids": ids, "labels": ids}, context


def t5() -> tuple[Callable[[], Any], dict[str, Any], int]:
    """An encoder-decoder: 512 tokens in, 128 out, and both are tokens."""
    config = transformers.T5Config(
        d_model=1024, d_ff=4096, num_layers=24, num_heads=16, d_kv=64, decoder_start_token_id=0
    )
    batch = {"input_ids": torch.zeros(1, 512, dtype=torch.long), "labels": torch.zeros(1, 128, dtype=torch.long)}
    return lambda: transformers.T5ForConditionalGeneration(config), batch, 640


def vit() -> tuple[Callable[[], Any], dict[str, Any], int]:
    """An image of 14 x 14 patches and a class token."""
    config = transformers.ViTConfig(
        hidden_size=1024, num_hidden_layers=24, num_attention_heads=16, intermediate_size=4096, num_labels=1000
    )
    batch = {"pixel_values": torch.zeros(1, 3, 224, 224), "labels": torch.zeros(1, dtype=torch.long)}
    return lambda: transformers.ViTForImageClassification(config), batch, 197


MODELS: dict[str, Callable[[], tuple[Callable[[], Any], dict[str, Any], int]]] = {
    "GPT-2 XL": lambda: causal("GPT2", n_positions=2048, n_embd=1600, n_layer=48, n_head=25),
    "Llama 2 7B": lambda: causal("Llama"),
    "Llama 3 8B (grouped queries)": lambda: causal(
        "Llama", vocab_size=128256, intermediate_size=14336, num_key_value_heads=8
    ),
    "Mistral 7B (window of 1,024)": lambda: causal("Mistral", sliding_window=1024),
    "Gemma 2 2B (every other layer within 1,024)": lambda: causal(
        "Gemma2", num_attention_heads=8, num_key_value_heads=4, head_dim=256, sliding_window=1024
    ),
    "Mixtral 8x7B": lambda: causal("Mixtral"),
    "Qwen3 30B-A3B": lambda: causal(
        "Qwen3Moe",
        num_hidden_layers=48,
        num_key_value_heads=4,
        head_dim=128,
        moe_intermediate_size=768,
        num_experts=128,
        num_experts_per_tok=8,
    ),
    "DeepSeek V2 Lite (latent attention)": lambda: causal(
        "DeepseekV2",
        vocab_size=102400,
        hidden_size=2048,
        intermediate_size=10944,
        moe_intermediate_size=1408,
        num_hidden_layers=27,
        num_attention_heads=16,
        num_key_value_heads=16,
        n_shared_experts=2,
        n_routed_experts=64,
        num_experts_per_tok=6,
        first_k_dense_replace=1,
        q_lora_rank=None,
        n_group=1,
        topk_group=1,
    ),
    "Mamba 2.8B": lambda: causal("Mamba", 64, vocab_size=50280, hidden_size=2560, num_hidden_layers=64),
    "Bamba 9B (Mamba 2 and three layers of attention)": lambda: causal("Bamba", attn_layer_indices=[9, 18, 27]),
    "Qwen3-Next 80B-A3B (linear attention, experts)": lambda: causal("Qwen3Next"),
    "T5 large": t5,
    "ViT-L/16": vit,
}


def count(name: str) -> Row:
    """Count one model by every convention."""
    make, batch, tokens = MODELS[name]()
    with torch.device("meta"):
        model = make()
    params = count_params(model)
    embeddings = [f"{where}.weight" for where, part in model.named_modules() if isinstance(part, torch.nn.Embedding)]
    looked_up = sum(p.numel() for where, p in model.named_parameters() if where in embeddings)
    context = next(iter(batch.values())).shape[1] if "input_ids" in batch else tokens
    try:
        dims = attention_dims(model)
        # of full attention: neither convention knows of windows
        scores = 12 * dims.num_layers * dims.d_attn * context
        with_attention = six_n(params, "active").model + dims.flops_per_token(context)
    except InputError:
        scores = with_attention = None
    decoder = "input_ids" in batch and scores is not None
    return Row(
        model=name,
        total=params.total,
        active=params.active,
        context=context,
        six_n=six_n(params, "active").model,
        six_n_attention=with_attention,
        measured=flops_per_token("measured", params, module=model, batch=batch, count_tokens=lambda _: tokens).model,
        counter=counted(model, batch) // tokens,
        palm=6 * params.total + scores if decoder else None,
        torchtitan=6 * (params.active - looked_up) + scores if decoder else None,
        hugging_face=6 * model.num_parameters(exclude_embeddings=True),
    )


def counted(model: Any, batch: dict[str, Any]) -> int:
    """What torch's own counter says of a step, on meta tensors, where attention is made of matmuls that it counts."""
    if hasattr(model.config, "num_experts_per_tok"):
        model.bfloat16()  # torch multiplies experts in groups in no other type
    on_meta = {name: torch.empty_like(value, device="meta") for name, value in batch.items()}
    with sdpa_kernel(SDPBackend.MATH), FlopCounterMode(display=False) as counter:
        model(**on_meta).loss.backward()
    return counter.get_total_flops()


def table(rows: Iterable[Row]) -> str:
    """The rows as markdown, in GFLOP per token."""
    head = ["", "N (active)", "context", "`6N`", "`6N+attention`", "`measured`", "torch's counter"]
    head += ["PaLM", "torchtitan", "`total_flos`"]
    lines = [head, ["---"] + ["---:"] * (len(head) - 1)]
    for row in rows:
        size = f"{row.total / 1e9:.2f}B" + (f" ({row.active / 1e9:.2f}B)" if row.active < row.total else "")
        flops = (row.six_n, row.six_n_attention, row.measured, row.counter, row.palm, row.torchtitan, row.hugging_face)
        shown = ["-" if value is None else f"{value / 1e9:.2f}" for value in flops]
        lines.append([row.model, size, f"{row.context:,}", *shown])
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def read(path: Path = HERE / "flops_conformance.csv") -> list[Row]:
    """The rows that were committed."""
    with path.open(newline="") as file:
        return [
            Row(row.pop("model"), **{name: int(value) if value else None for name, value in row.items()})
            for row in csv.DictReader(file)
        ]


def main() -> None:
    warnings.simplefilter("ignore")
    transformers.utils.logging.set_verbosity_error()
    rows = []
    for name in MODELS:
        rows.append(count(name))
        print(table(rows[-1:]).splitlines()[-1], flush=True)
    with (HERE / "flops_conformance.csv").open("w", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow([field.name for field in fields(Row)])
        writer.writerows([getattr(row, field.name) for field in fields(Row)] for row in rows)
    page = HERE / "flops_conformance.md"
    before, _, rest = page.read_text().partition("<!-- table -->")
    after = rest.partition("<!-- end -->")[2]
    page.write_text(f"{before}<!-- table -->\n{table(rows)}\n<!-- end -->{after}")


if __name__ == "__main__":
    sys.exit(main())
