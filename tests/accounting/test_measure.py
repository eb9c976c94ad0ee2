"""Measured FLOPs against sums written out from the dims, and the traps of FlopCounterMode shown beside them."""

import copy

import pytest
import torch
import torch.nn.functional as F
from torch import nn
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.nn.modules import module as nn_module
from torch.utils._python_dispatch import _get_current_dispatch_mode_stack
from torch.utils.checkpoint import checkpoint
from torch.utils.flop_counter import FlopCounterMode

from scalestop.accounting.measure import StepFlops, measure_flops
from scalestop.errors import InputError

V, D, B, T = 11, 8, 2, 6
TOKENS = torch.randint(2, V, (B, T))


def matmul(tokens, inputs, outputs):
    """Forward FLOPs of a linear layer: a multiply and an add per weight and token."""
    return 2 * tokens * inputs * outputs


def plain_count(module, *args):
    """What FlopCounterMode says by itself, on the module as it is."""
    with FlopCounterMode(display=False) as counter:
        out = module(*args)
        out = out[0] if isinstance(out, tuple) else out
        if out.requires_grad:
            out.sum().backward()
    return counter


class Block(nn.Module):
    """Attention of one head and a MLP; written so that dims are all there is to it."""

    def __init__(self, d, recompute=None, attend=F.scaled_dot_product_attention):
        super().__init__()
        self.q, self.k, self.v = (nn.Linear(d, d, bias=False) for _ in range(3))
        self.out = nn.Linear(d, d, bias=False)
        self.up, self.down = nn.Linear(d, 4 * d, bias=False), nn.Linear(4 * d, d, bias=False)
        self.recompute, self.attend = recompute, attend

    def mix(self, x):
        x = x + self.out(self.attend(self.q(x)[:, None], self.k(x)[:, None], self.v(x)[:, None])[:, 0])
        return x + self.down(F.gelu(self.up(x)))

    def forward(self, x):
        if self.recompute is None:
            return self.mix(x)
        return checkpoint(self.mix, x, use_reentrant=self.recompute)


class GPT(nn.Module):
    def __init__(self, layers=2, **block):
        super().__init__()
        self.embed = nn.Embedding(V, D)
        self.blocks = nn.ModuleList(Block(D, **block) for _ in range(layers))
        self.head = nn.Linear(D, V, bias=False)

    def forward(self, x):
        x = self.embed(x)
        for block in self.blocks:
            x = block(x)
        return self.head(x)


LINEAR = matmul(B * T, D, 12 * D)  # forward, one block: 4 d² + 8 d²
ATTENTION = 2 * matmul(B * T, T, D)  # forward, one block: scores and weighted sum
HEAD = matmul(B * T, D, V)


class TestAgainstDims:
    def test_a_transformer(self):
        got = measure_flops(GPT(), TOKENS)
        forward = 2 * (LINEAR + ATTENTION) + HEAD
        assert got.total == StepFlops(forward, 2 * forward, 0)
        assert (got.total.model, got.total.hardware) == (3 * forward, 3 * forward)
        assert (got.tokens, got.unseen, got.ran) == (B * T, (), "forward")

    def test_by_module(self):
        got = measure_flops(GPT(), TOKENS).by_module
        for i in (0, 1):
            assert got[f"blocks.{i}"] == StepFlops(ATTENTION, 2 * ATTENTION, 0)
            for name, size in {"q": D * D, "k": D * D, "v": D * D, "out": D * D, "up": 4 * D * D}.items():
                flops = 2 * B * T * size
                assert got[f"blocks.{i}.{name}"] == StepFlops(flops, 2 * flops, 0)
        assert got["head"] == StepFlops(HEAD, 2 * HEAD, 0)
        assert got["embed"] == got[""] == StepFlops()

    def test_frozen_layers(self):
        """Below the first trained layer no gradient passes: 2N. Above it, one passes through: 4N."""
        model = GPT(layers=3)
        model.requires_grad_(False)
        model.blocks[1].up.requires_grad_(True)
        got = measure_flops(model, TOKENS).by_module
        per_weight = 2 * B * T * D * D
        assert got["blocks.0.q"] == StepFlops(per_weight, 0, 0)
        assert got["blocks.0"] == StepFlops(ATTENTION, 0, 0)
        assert got["blocks.1.up"] == StepFlops(4 * per_weight, 4 * per_weight, 0)  # its input needs no gradient
        assert got["blocks.1.down"] == StepFlops(4 * per_weight, 4 * per_weight, 0)
        assert got["blocks.2.q"] == StepFlops(per_weight, per_weight, 0)
        assert got["head"] == StepFlops(HEAD, HEAD, 0)

    def test_nothing_trains(self):
        got = measure_flops(GPT().requires_grad_(False), TOKENS)
        assert got.total == StepFlops(2 * (LINEAR + ATTENTION) + HEAD, 0, 0)

    def test_lora(self):
        class Lora(nn.Module):
            def __init__(self, rank):
                super().__init__()
                self.embed = nn.Embedding(V, D)
                self.base = nn.ModuleList(nn.Linear(D, D, bias=False) for _ in range(3))
                self.requires_grad_(False)
                self.down = nn.ModuleList(nn.Linear(D, rank, bias=False) for _ in range(3))
                self.up = nn.ModuleList(nn.Linear(rank, D, bias=False) for _ in range(3))

            def forward(self, x):
                x = self.embed(x)
                for base, down, up in zip(self.base, self.down, self.up, strict=True):
                    x = base(x) + up(down(x))
                return x

        got = measure_flops(Lora(2), TOKENS).by_module
        tokens = B * T
        for i in (1, 2):
            assert got[f"base.{i}"].model == 4 * tokens * D * D
            assert got[f"down.{i}"].model + got[f"up.{i}"].model == 6 * tokens * 2 * D * 2

    @pytest.mark.parametrize("reentrant", [True, False])
    def test_activation_checkpointing_is_hardware_not_model(self, reentrant):
        got = measure_flops(GPT(recompute=reentrant), TOKENS)
        plain = measure_flops(GPT(), TOKENS)
        assert got.total.model == plain.total.model
        # The non-reentrant kind stops before the last matmul, whose output nobody needs.
        spared = 0 if reentrant else 2 * matmul(B * T, 4 * D, D)
        assert got.total.recomputed == 2 * (LINEAR + ATTENTION) - spared
        assert got.by_module["blocks.0.q"] == StepFlops(*(matmul(B * T, D, D) * n for n in (1, 2, 1)))


class TestTraps:
    """Each shows FlopCounterMode's own answer first, so that a version that changes it is noticed."""

    def test_zero_sdpa_on_the_cpu(self):
        q = torch.randn(B, 1, T, D, requires_grad=True)
        attend = F.scaled_dot_product_attention
        assert plain_count(lambda x: attend(x, x, x), q).get_total_flops() == 0
        with sdpa_kernel(SDPBackend.MATH):
            assert plain_count(lambda x: attend(x, x, x), q).get_total_flops() == 3 * ATTENTION
        assert measure_flops(GPT(layers=1), TOKENS).by_module["blocks.0"].model == 3 * ATTENTION

    def test_causal_is_not_halved(self):
        causal = GPT(attend=lambda q, k, v: F.scaled_dot_product_attention(q, k, v, is_causal=True))
        assert measure_flops(causal, TOKENS).total == measure_flops(GPT(), TOKENS).total

    def test_lstm(self):
        lstm = nn.LSTM(D, D, batch_first=True, bias=False)
        assert plain_count(lstm, torch.randn(B, T, D)).get_total_flops() == 0
        got = measure_flops(nn.Sequential(nn.Embedding(V, D), lstm), TOKENS)
        weights = 2 * 4 * D * D
        assert got.total.forward == 2 * B * T * weights
        # One step's recurrent product gives no gradient to the initial state.
        assert got.total.backward == 2 * got.total.forward - 2 * B * 4 * D * D

    def test_encoder_layers_fast_path(self):
        layer = nn.TransformerEncoderLayer(D, 2, 4 * D, batch_first=True).eval()
        with torch.no_grad():
            assert plain_count(layer, torch.randn(B, T, D)).get_total_flops() == 0
        got = measure_flops(nn.Sequential(nn.Embedding(V, D), layer), TOKENS)
        assert got.total.model == 3 * (LINEAR + ATTENTION)

    def test_own_table_charges_sisters(self):
        """Three projections of one tensor: the second and third get the backward of those before them as well."""

        class Projections(nn.Module):
            def __init__(self):
                super().__init__()
                self.embed = nn.Embedding(V, 4)
                self.q, self.k, self.v = (nn.Linear(4, width, bias=False) for width in (4, 8, 16))

            def forward(self, x):
                x = torch.relu(self.embed(x))
                return self.q(x).sum() + self.k(x).sum() + self.v(x).sum()

        module = Projections()
        counts = plain_count(module, TOKENS).get_flop_counts()
        table = {name: sum(counts[f"Projections.{name}"].values()) for name in "qkv"}
        right = {name: 6 * B * T * 4 * width for name, width in zip("qkv", (4, 8, 16), strict=True)}
        assert (table["q"], table["k"] > right["k"], table["v"] > right["v"]) == (right["q"], True, True)
        got = measure_flops(module, TOKENS).by_module
        assert {name: got[name].model for name in "qkv"} == right

    def test_operators_without_a_formula_are_named(self):
        class Odd(nn.Module):
            def __init__(self):
                super().__init__()
                self.embed = nn.Embedding(V, D)
                self.pair = nn.Bilinear(D, D, D, bias=False)
                self.head = nn.Linear(D, V)

            def forward(self, x):
                x = self.embed(x)
                return self.head(self.pair(x, x))

        got = measure_flops(Odd(), TOKENS)
        assert ("pair", "aten._trilinear") in got.unseen
        assert got.by_module["pair"].forward == 0
        assert got.by_module["head"].forward == HEAD

    def test_custom_operators_are_named(self):
        @torch.library.custom_op("scalestop_test::mix", mutates_args=())
        def mix(a: torch.Tensor) -> torch.Tensor:
            return a @ a.mT

        mix.register_fake(lambda a: torch.empty(*a.shape[:-1], a.shape[-2], device=a.device))
        mix.register_autograd(
            lambda ctx, grad: (grad + grad.mT) @ ctx.saved_tensors[0],
            setup_context=lambda ctx, inputs, output: ctx.save_for_backward(inputs[0]),
        )

        class Custom(nn.Module):
            def __init__(self):
                super().__init__()
                self.embed = nn.Embedding(V, D)
                self.head = nn.Linear(T, V)

            def forward(self, x):
                return self.head(mix(self.embed(x)))

        assert measure_flops(Custom(), TOKENS).unseen == (("", "scalestop_test.mix"),)

    @pytest.mark.parametrize("groups", [1, 2, 8])
    @pytest.mark.parametrize(("kind", "length"), [(nn.Conv1d, 8), (nn.ConvTranspose1d, 10)])
    def test_convolutions_in_groups(self, kind, length, groups):
        """Each of 8 outputs sums over 8/groups inputs at 3 places; torch charges the weight gradient for all 8."""
        got = measure_flops(
            kind(8, 8, 3, groups=groups, bias=False),
            torch.zeros(2, 8, 10),
            step=lambda module, batch: module(batch).sum(),
            count_tokens=lambda batch: 20,
        )
        once = 2 * 2 * length * 8 * (8 // groups) * 3
        assert (got.total.forward, got.total.backward) == (once, once)  # the input takes no gradient

    def test_a_state_space_model_costs_what_its_matrices_do(self):
        """Mamba's depthwise convolution takes part in the count with its own few weights."""
        transformers = pytest.importorskip("transformers")
        ids = torch.zeros(2, 8, dtype=torch.long)
        config = transformers.MambaConfig(
            vocab_size=64, hidden_size=32, state_size=4, num_hidden_layers=2, time_step_rank=2
        )
        model = transformers.MambaForCausalLM(config)
        got = measure_flops(model, {"input_ids": ids, "labels": ids})
        per_token = got.total.model / ids.numel()
        # 6 for each weight that multiplies; A, D and the biases do not, and the scan's state is read by a matmul
        inner, state = 64, 4
        matrices = sum(p.numel() for name, p in model.named_parameters() if name.endswith("proj.weight"))
        head, convolution = 64 * 32, 2 * inner * config.conv_kernel * (ids.shape[1] + 3) / ids.shape[1]
        reads = 2 * inner * state
        assert per_token == pytest.approx(6 * (matrices + head + convolution + reads), rel=1e-3)

    def test_nothing_counted_is_an_error(self):
        with pytest.raises(InputError, match=r"FlopCounterMode counted 0 FLOPs .*none that multiplies matrices"):
            measure_flops(nn.Embedding(V, D), TOKENS)

    def test_fused_attention_backward_recomputes_scores(self):
        """A flash kernel's backward is five matmuls where the mathematics has four."""
        flash = torch.ops.aten._scaled_dot_product_flash_attention

        class Flash(torch.autograd.Function):
            @staticmethod
            def forward(ctx, x):
                out, lse, cq, ck, mq, mk, seed, offset, _ = flash(x, x, x)
                ctx.save_for_backward(x, out, lse, cq, ck, seed, offset)
                ctx.lengths = mq, mk
                return out

            @staticmethod
            def backward(ctx, grad):
                x, out, lse, cq, ck, seed, offset = ctx.saved_tensors
                grads = torch.ops.aten._scaled_dot_product_flash_attention_backward(
                    grad, x, x, x, out, lse, cq, ck, *ctx.lengths, 0.0, False, seed, offset
                )
                return sum(grads)

        model = GPT(layers=1, attend=lambda q, k, v: Flash.apply(q + k + v))
        got = measure_flops(model, TOKENS).by_module["blocks.0"]
        assert got == StepFlops(ATTENTION, 2 * ATTENTION, ATTENTION // 2)


class Values(nn.Module):
    """Looks at a value, which meta tensors do not have."""

    def __init__(self):
        super().__init__()
        self.inner = GPT()

    def forward(self, x):
        return self.inner(x) if x.max().item() else None


class TestLeavesNothingBehind:
    @pytest.mark.parametrize("model", [GPT(), Values()])
    def test_hooks_modes_gradients_and_random_state(self, model):
        hooks = [len(getattr(nn_module, name)) for name in dir(nn_module) if name.startswith("_global_forward")]
        before = copy.deepcopy(model.state_dict())
        random_state = torch.get_rng_state()
        if isinstance(model, Values):
            with pytest.raises(InputError):
                measure_flops(model, TOKENS)
        else:
            measure_flops(model, TOKENS)
        assert _get_current_dispatch_mode_stack() == []
        assert hooks == [len(getattr(nn_module, name)) for name in dir(nn_module) if name.startswith("_global_forward")]
        assert torch.equal(random_state, torch.get_rng_state())
        for sub in model.modules():
            assert not sub._forward_hooks and not sub._forward_pre_hooks
        for name, value in model.state_dict().items():
            assert torch.equal(value, before[name])
        assert all(p.grad is None and p.device.type == "cpu" for p in model.parameters())

    def test_inside_no_grad_and_inference_mode(self):
        expected = measure_flops(GPT(), TOKENS).total
        with torch.no_grad():
            assert measure_flops(GPT(), TOKENS).total == expected
        model = GPT()
        with torch.inference_mode():
            assert measure_flops(model, TOKENS).total == expected

    def test_an_empty_batch(self):
        with pytest.raises(InputError, match="batch: it holds no token"):
            measure_flops(GPT(), TOKENS[:0])


class TestTransformers:
    """Models nobody here wrote, from config objects."""

    V, D, F, L, T = 64, 32, 48, 2, 16

    @pytest.fixture
    def transformers(self):
        return pytest.importorskip("transformers")

    def batch(self, high=64):
        ids = torch.randint(2, high, (3, self.T))
        mask = torch.ones_like(ids)
        mask[0, 9:] = 0
        return {"input_ids": ids, "attention_mask": mask, "labels": ids.masked_fill(mask == 0, -100)}

    def gpt2(self, transformers):
        return transformers.GPT2LMHeadModel(
            transformers.GPT2Config(
                vocab_size=self.V, n_positions=self.T, n_embd=self.D, n_layer=self.L, n_head=2, use_cache=False,
                bos_token_id=0, eos_token_id=1,
            )
        )  # fmt: skip

    def llama_config(self, kind, transformers, **settings):
        return getattr(transformers, f"{kind}Config")(
            vocab_size=self.V, hidden_size=self.D, intermediate_size=self.F, num_hidden_layers=self.L,
            num_attention_heads=4, num_key_value_heads=2, bos_token_id=0, eos_token_id=1, pad_token_id=2, **settings,
        )  # fmt: skip

    def test_gpt2(self, transformers):
        got = measure_flops(self.gpt2(transformers), self.batch())
        per_token = 6 * (self.L * 12 * self.D**2 + self.D * self.V) + 12 * self.L * self.D * self.T
        assert got.total.model == got.total.hardware == per_token * 3 * self.T
        assert got.unseen == ()

    def test_bare_token_ids(self, transformers):
        batch, model = self.batch(), self.gpt2(transformers)
        assert measure_flops(model, batch["input_ids"]).total == measure_flops(model, batch).total

    def test_gpt2_recomputing_activations(self, transformers):
        model = self.gpt2(transformers)
        model.gradient_checkpointing_enable()
        got = measure_flops(model, self.batch())
        assert got.total.model == measure_flops(self.gpt2(transformers), self.batch()).total.model
        blocks = 2 * self.L * 12 * self.D**2 + 4 * self.L * self.D * self.T
        assert 0.6 * blocks < got.total.recomputed / (3 * self.T) <= blocks

    def test_llama(self, transformers):
        model = transformers.LlamaForCausalLM(self.llama_config("Llama", transformers))
        weights = self.L * (2 * self.D**2 + 2 * self.D * self.D // 2 + 3 * self.D * self.F) + self.D * self.V
        got = measure_flops(model, self.batch())
        assert got.total.model == (6 * weights + 12 * self.L * self.D * self.T) * 3 * self.T

    def test_mixture_of_experts(self, transformers):
        """Routing looks at values; the copy takes the form that does not, at the same cost."""
        config = self.llama_config("Mixtral", transformers, num_local_experts=4, num_experts_per_tok=2)
        model = transformers.MixtralForCausalLM(config)
        before = config._experts_implementation
        got = measure_flops(model, self.batch())
        layer = 2 * self.D**2 + 2 * self.D * self.D // 2 + 2 * 3 * self.D * self.F + self.D * 4
        weights = self.L * layer + self.D * self.V
        assert got.total.model == (6 * weights + 12 * self.L * self.D * self.T) * 3 * self.T
        assert model.config._experts_implementation == before

    def test_inside_a_training_step(self, transformers):
        class Wrapped(nn.Module):
            automatic_optimization = True

            def __init__(self, model):
                super().__init__()
                self.model = model

            def training_step(self, batch, batch_idx):
                return self.model(**batch).loss

        model = self.gpt2(transformers)
        got = measure_flops(Wrapped(model), transformers.BatchEncoding(self.batch()))
        assert got.ran.startswith("training_step")
        assert got.total == measure_flops(model, self.batch()).total

    def test_encoder_decoder(self, transformers):
        """Source and target pass different halves; each half's cost is written out."""
        d, f, kv, source, target = 16, 24, 8, 10, 6
        model = transformers.T5ForConditionalGeneration(
            transformers.T5Config(
                vocab_size=self.V, d_model=d, d_ff=f, d_kv=kv, num_layers=1, num_heads=2, decoder_start_token_id=0
            )
        )
        batch = {"input_ids": torch.randint(2, 60, (3, source)), "labels": torch.randint(2, 60, (3, target))}
        counter = {"step": lambda m, b: m(**b).loss, "count_tokens": lambda b: 3 * (source + target)}
        got = measure_flops(model, batch, **counter)
        attention, inner = 4 * d * 2 * kv, 2 * kv
        encoder = source * (6 * (attention + 2 * d * f) + 12 * inner * source)
        decoder = target * (6 * (attention + 2 * d * f + d * self.V) + 12 * inner * target)
        cross = 6 * (target * 2 * d * inner + source * 2 * d * inner) + 12 * inner * source * target
        assert got.total.model == 3 * (encoder + decoder + cross)
