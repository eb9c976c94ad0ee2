"""Measure a scaling law on the standard library's sources: train a grid of small models, then fit.

    python examples/fit_stdlib_law.py            # trains what is missing (about 25 minutes on one core), then fits
    python examples/fit_stdlib_law.py --fit-only

Each finished run is one line of `examples/stdlib_bytes_records.jsonl`. The script can be killed at any moment: started
again, it skips the runs that have a line.

What was found out on the way (one seed each unless said; nats per byte on held-out files):
- Embeddings drawn with a standard deviation of 0.1 end 0.18 nats better than with GPT-2's 0.02 (33k parameters, 1e11
  FLOPs). With 0.02 the same grid would have measured the initialisation.
- Rotary positions have no parameters and are 0.18 nats better than fixed sines, 0.26 better than learned positions
  (68k parameters, 1e11 FLOPs). Base 1,000 is 0.01-0.02 better than 10,000 at a context of 128.
- Rate: 0.25 / width is within 0.02 nats of the best of a grid in factors of two at every size tried (10k to 164k
  parameters), but for one of 0.04 (20k at 3e10 FLOPs), and the best rate does not move between 3e11 and 1e12 FLOPs.
- Batch: see `batch_size_for`. About 2,000 steps for every run is not best: at 1e12 FLOPs and 45k parameters 2,050,
  2,880, 4,110 and 7,190 steps end at 1.485, 1.462, 1.459 and 1.469.
- Shape: a first grid took two blocks for the small models and three for the large ones. The two families lie on
  different curves (1e12 FLOPs: three blocks with 27k parameters 1.503, two with 33k 1.527); so three blocks throughout.
  One head of 32 channels instead of two of 16, at width 64: 0.03 worse.
- Squared ReLU in place of GELU, zero-initialised output projections, a second beta of 0.99, a decay over the last 80 %
  and a decay of square-root shape: all within 0.015, which is chance.
- Chance: three seeds of one run differ by a standard deviation of 0.01 to 0.03 at 3e10 and 1e11 FLOPs. Which held-out
  windows are taken matters less: the difference between two runs has a standard error of 0.002 to 0.003.
- Below 4 tokens a parameter most runs end 0.01 to 0.06 above the law. They stay in the fit: the rule for sizes was set
  before it.
"""

from __future__ import annotations

import argparse
import json
import os
import time
from dataclasses import dataclass, replace
from pathlib import Path

import pytorch_lightning as pl
import torch

from scalestop import ComputeOptimalStopping, LawFit, fit_law
from scalestop.lab.corpus import embedded_corpus
from scalestop.lab.data import TextData, batch_size_for
from scalestop.lab.dims import GPTDims, dims_for
from scalestop.lab.tiny_gpt import TinyGPT, default_lr

RECORDS = Path(__file__).with_name("stdlib_bytes_records.jsonl")
CONTEXT = 128  # tokens
SIZES = (8.4e3, 13.4e3, 19.7e3, 27e3, 45e3, 68e3, 96e3, 164e3, 250e3)  # parameters
BUDGETS = {3e10: 3, 1e11: 3, 3e11: 2, 1e12: 1, 3e12: 1}  # FLOPs -> seeds: chance weighs most in the shortest runs
TOKENS_PER_PARAM = (2.2, 160)  # sizes outside are far up the sides of the valley at that budget
HELD_OUT = ((1e13, 164e3), (1e13, 250e3))  # never shown to the fit


@dataclass(frozen=True)
class Run:
    """One training run, settled before it starts.

    Attributes:
        flops: Compute asked for, 6 x parameters x tokens.
        dims: Shape of the model.
        seed: Seed of weights and data order.
        held_out: Whether the fit may not see it.
    """

    flops: float
    dims: GPTDims
    seed: int
    held_out: bool

    @property
    def name(self) -> str:
        """What tells this run from the others."""
        return f"{self.flops:.0e}-{self.dims.width}x{self.dims.depth}-seed{self.seed}".replace("+", "")

    @property
    def num_tokens(self) -> float:
        """Tokens that spend the budget."""
        return self.flops / (6 * self.dims.num_params)

    @property
    def batch_size(self) -> int:
        """Windows in a batch."""
        return batch_size_for(self.num_tokens, CONTEXT)

    @property
    def steps(self) -> int:
        """Optimizer steps that come nearest to the budget."""
        return max(1, round(self.num_tokens / (CONTEXT * self.batch_size)))


def planned_runs() -> list[Run]:
    low, high = TOKENS_PER_PARAM
    runs = []
    for size in SIZES:
        dims = dims_for(size)
        for flops, seeds in BUDGETS.items():
            if low <= flops / (6 * dims.num_params**2) <= high:
                runs += [Run(flops, dims, seed, held_out=False) for seed in range(seeds)]
    runs += [Run(flops, dims_for(size), 0, held_out=True) for flops, size in HELD_OUT]
    return sorted(runs, key=lambda run: (run.flops, run.seed))


def train(run: Run) -> dict:
    pl.seed_everything(run.seed, verbose=False)
    data = TextData(context=CONTEXT, batch_size=run.batch_size, seed=run.seed)
    lr = default_lr(run.dims.width)
    model = TinyGPT(width=run.dims.width, depth=run.dims.depth, num_heads=run.dims.num_heads, lr=lr)
    # It gives the learning rate its clock. With no tolerance no size counts as optimal: the tokens end the run.
    stopping = ComputeOptimalStopping(
        f"{run.steps * data.tokens_per_batch} tokens", tolerance=0.0, oversized="ignore", record=False, verbose=False
    )
    trainer = pl.Trainer(
        max_epochs=-1,
        callbacks=[stopping],
        limit_val_batches=0,
        gradient_clip_val=1.0,
        accelerator="cpu",
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
    )
    started = time.perf_counter()
    trainer.fit(model, data)
    seconds = time.perf_counter() - started
    trainer.limit_val_batches = 1.0
    loss = trainer.validate(model, data, verbose=False)[0]["val_loss"]
    tokens = trainer.global_step * data.tokens_per_batch
    corpus = data.corpus.describe()
    return {
        "run": run.name,
        "params": run.dims.num_params,
        "tokens": tokens,
        "flops": 6 * run.dims.num_params * tokens,
        "loss": round(loss, 6),
        "seed": run.seed,
        "held_out": run.held_out,
        "body_params": run.dims.body,
        "width": run.dims.width,
        "depth": run.dims.depth,
        "num_heads": run.dims.num_heads,
        "context": CONTEXT,
        "batch_size": run.batch_size,
        "steps": trainer.global_step,
        "lr": lr,
        "lr_decayed": True,
        "seconds": round(seconds, 1),
        "python_version": corpus["python_version"],
        "corpus_sha256": corpus["sha256"],
        "torch_version": torch.__version__,
    }


def read_records(path: Path) -> list[dict]:
    if not path.exists():
        return []
    # A line without its end was being written when the script was killed: that run is simply done again.
    return [json.loads(line) for line in path.read_text().splitlines() if line.endswith("}")]


def sweep(path: Path) -> None:
    done = {record["run"] for record in read_records(path)}
    missing = [run for run in planned_runs() if run.name not in done]
    for number, run in enumerate(missing, 1):
        record = train(run)
        torn = path.exists() and not path.read_text().endswith("\n")
        with path.open("a") as file:
            file.write("\n" * torn + json.dumps(record) + "\n")
            file.flush()
            os.fsync(file.fileno())
        print(
            f"[{number}/{len(missing)}] {run.name}: N {record['params']:,}, D {record['tokens']:,}, "
            f"{record['steps']} steps, loss {record['loss']:.4f}, {record['seconds']:.0f} s",
            flush=True,
        )


def fit(path: Path) -> LawFit:
    """The law of these runs by total N, with what speaks for and against it printed."""
    records = read_records(path)
    fitted = fit_law(path, name="stdlib-bytes", n_counts="total")
    law = fitted.law
    print()
    for name, interval in fitted.intervals.items():
        print(f"  {name:<6} {interval}")
    for warning in fitted.diagnostics.warnings:
        print(f"  note: {warning}")

    print("\nrun                      N         D   tokens/N    loss  law - loss")
    for record in sorted(records, key=lambda record: (record["flops"], record["params"], record["seed"])):
        error = law.loss(record["params"], record["tokens"]) - record["loss"]
        print(
            f"{record['run']:<18}{record['params']:>8,}{record['tokens']:>12,}"
            f"{record['tokens'] / record['params']:>9.1f}{record['loss']:>9.4f}{error:>+10.4f}"
            f"{'  held out' if record['held_out'] else ''}"
        )

    body = fit_law([{**record, "params": record["body_params"], "flops": None} for record in records], n_counts="body")
    for convention, one in (("total", fitted), ("body", body)):
        print(f"N counts {convention}: root mean square of log residuals {rms(one.residuals.log_ratio):.4f}")
    for flops in (1e11, 1e12, 3e12, 1e13):
        best = fitted.optimum(flops)
        print(f"C = {flops:.0e}: N_opt {best.num_params}, D_opt {best.num_tokens}, loss {best.loss}")
    return fitted


def rms(values) -> float:
    return sum(value * value for value in values) ** 0.5 / len(values) ** 0.5


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--records", type=Path, default=RECORDS, help="JSON-lines file of finished runs")
    parser.add_argument("--law", type=Path, default=None, help="JSON file to save the law to")
    parser.add_argument("--fit-only", action="store_true", help="train nothing")
    parser.add_argument("--threads", type=int, default=1, help="torch threads")
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    if not arguments.fit_only:
        sweep(arguments.records)
    fitted = fit(arguments.records)
    if arguments.law:
        corpus = embedded_corpus().describe()
        if {record["corpus_sha256"] for record in read_records(arguments.records)} != {corpus["sha256"]}:
            raise SystemExit("the records are of another corpus (another Python release); remove them and run again")
        info = fitted.law.info
        notes = (
            f"Text: the sources of Python {corpus['python_version']}'s standard library as bytes, "
            f"{corpus['num_train_bytes']:,} to train on, {corpus['num_val_bytes']:,} in held-out files; sha256 "
            f"{corpus['sha256']}. Another release is another text, and its losses will be offset.",
            f"Recipe: TinyGPT with tied head, context {CONTEXT}, AdamW at 0.25 / width, 10 % warm-up, linear decay to "
            "0 over the last half, gradients clipped at 1, batch by batch_size_for. Another recipe is another law.",
            "Made by examples/fit_stdlib_law.py.",
        )
        fitted_on = f"bytes of Python's standard library: {info.fitted_on}"
        replace(fitted.law, info=replace(info, fitted_on=fitted_on, notes=info.notes + notes)).save(arguments.law)


if __name__ == "__main__":
    main()
