"""count_params against formulae written out by hand from the models' dims."""

import copy
import os
import socket
from types import SimpleNamespace

import pytest
import torch
import torch.distributed as dist
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from scalestop.accounting.params import ParamCount, count_params
from scalestop.errors import InputError


class Block(nn.Module):
    def __init__(self, d):
        super().__init__()
        self.attn = nn.Linear(d, d, bias=False)
        self.mlp = nn.Sequential(nn.Linear(d, 4 * d), nn.GELU(), nn.Linear(4 * d, d))

    def forward(self, x):
        return x + self.mlp(self.attn(x))


class GPT(nn.Module):
    """Blocks with biases only in the MLP; learned positions; a head that may be tied."""

    def __init__(self, vocab, context, d, layers, tied, container=nn.ModuleList):
        super().__init__()
        self.tok = nn.Embedding(vocab, d)
        self.pos = nn.Embedding(context, d)
        blocks = [Block(d) for _ in range(layers)]
        self.blocks = container(blocks) if container is nn.ModuleList else container(*blocks)
        self.out = nn.Linear(d, vocab, bias=False)
        if tied:
            self.out.weight = self.tok.weight


def block_params(d):
    return d * d + (4 * d * d + 4 * d) + (4 * d * d + d)


@pytest.mark.parametrize("container", [nn.ModuleList, nn.Sequential])
@settings(deadline=None, max_examples=40)
@given(
    vocab=st.integers(2, 40),
    context=st.integers(1, 40),
    d=st.integers(1, 10),
    layers=st.integers(1, 3),
    tied=st.booleans(),
)
def test_roles_against_the_formula(container, vocab, context, d, layers, tied):
    with torch.device("meta"):
        got = count_params(GPT(vocab, context, d, layers, tied, container))
    body = layers * block_params(d)
    embedding = vocab * d + context * d
    head = 0 if tied else vocab * d
    assert (got.total, got.body, got.embedding, got.head) == (body + embedding + head, body, embedding, head)
    assert got.tied == (vocab * d if tied else 0)
    assert got.trainable == got.active == got.total


@pytest.mark.parametrize(("vocab", "d"), [(64, 16), (16, 16), (256, 64)])
def test_a_block_layer_of_the_heads_shape_is_not_the_head(vocab, d):
    """Bytes and width 64: each MLP's up-projection is 64 -> 256, as the head; vocab 16, width 16: so is attention."""
    got = count_params(GPT(vocab, 8, d, 3, tied=False))
    assert got.body == 3 * block_params(d)
    assert got.head == vocab * d


def test_a_context_as_long_as_the_mlp_is_wide_is_not_a_vocabulary():
    got = count_params(GPT(vocab=50, context=64, d=16, layers=2, tied=False))
    assert (got.body, got.head) == (2 * block_params(16), 50 * 16)


def test_head_tied_in_forward_only():
    model = GPT(64, 8, 16, 2, tied=False)
    del model.out
    got = count_params(model)
    assert (got.body, got.embedding, got.head) == (2 * block_params(16), 72 * 16, 0)


def test_sequential_with_two_layers_of_the_heads_shape_says_which_it_took():
    got = count_params(nn.Sequential(nn.Embedding(8, 8), nn.Linear(8, 8), nn.ReLU(), nn.Linear(8, 8)))
    assert (got.body, got.embedding, got.head) == (72, 64, 72)
    assert got.notes == ("output head: '3' taken out of 2 layers of its shape ('1', '3'); pass head= if that is wrong",)


def test_head_found_by_name_whatever_its_shape():
    """A vocabulary padded for the head only: 10 tokens, 16 outputs."""
    model = nn.ModuleDict({"embed": nn.Embedding(10, 4), "body": nn.Linear(4, 4), "lm_head": nn.Linear(4, 16)})
    got = count_params(model)
    assert (got.body, got.embedding, got.head) == (20, 40, 80)


class Bare(nn.Module):
    def __init__(self):
        super().__init__()
        self.wte = nn.Parameter(torch.zeros(10, 4))
        self.pos_embedding = nn.Parameter(torch.zeros(1, 7, 4))
        self.proj = nn.Linear(4, 4)
        self.scale = nn.Parameter(torch.zeros(4, 4))
        self.head = nn.Parameter(torch.zeros(4, 10))


def test_bare_parameters():
    got = count_params(Bare())
    assert (got.body, got.embedding, got.head) == (20 + 16, 40 + 28, 40)


def test_an_embedding_class_of_ones_own():
    class VocabParallelEmbedding(nn.Module):
        def __init__(self):
            super().__init__()
            self.weight = nn.Parameter(torch.zeros(10, 4))

    got = count_params(nn.Sequential(VocabParallelEmbedding(), nn.Linear(4, 4, bias=False), nn.Linear(4, 10)))
    assert (got.body, got.embedding, got.head) == (16, 40, 50)


def test_a_vision_model_is_all_body():
    got = count_params(nn.Sequential(nn.Conv2d(3, 4, 3), nn.Flatten(), nn.Linear(16, 10)))
    assert got.body == got.total == 3 * 4 * 9 + 4 + 170


class TestOverrides:
    model = GPT(20, 8, 4, 1, tied=False)

    @pytest.mark.parametrize("head", ["out", "out.weight", ["out"]])
    def test_names(self, head):
        assert count_params(self.model, head=head).head == 80

    def test_modules_and_parameters(self):
        got = count_params(self.model, embedding=[self.model.tok, self.model.pos.weight], head=self.model.out)
        assert (got.embedding, got.head) == (112, 80)

    def test_none_of_them(self):
        got = count_params(self.model, embedding=(), head=())
        assert got.body == got.total
        assert count_params(self.model, embedding="tok").embedding == 80

    def test_an_unknown_name(self):
        with pytest.raises(InputError, match=r"head='model\.out': the module has no submodule .* did you mean 'out'\?"):
            count_params(self.model, head="model.out")

    def test_a_strangers_module(self):
        with pytest.raises(InputError, match="embedding=Embedding: it is not part of the module"):
            count_params(self.model, embedding=nn.Embedding(3, 3))

    def test_a_module_without_parameters(self):
        with pytest.raises(InputError, match=r"head='blocks.0.mlp.1': it holds no parameter"):
            count_params(self.model, head="blocks.0.mlp.1")


class TestFrozen:
    def test_trainable(self):
        model = GPT(20, 8, 4, 2, tied=True)
        model.blocks[0].requires_grad_(False)
        model.tok.requires_grad_(False)
        got = count_params(model)
        assert got.trainable == block_params(4) + 8 * 4
        assert got.body_trainable == block_params(4)


class Moe(nn.Module):
    def __init__(self, n, d, fused, top_k=None, config=None):
        super().__init__()
        self.gate = nn.Linear(d, n, bias=False)
        if fused:
            self.experts = nn.Module()
            self.experts.up = nn.Parameter(torch.zeros(n, d, 3 * d))
            self.experts.down = nn.Parameter(torch.zeros(n, 3 * d, d))
        else:
            self.experts = nn.ModuleList(
                nn.Sequential(nn.Linear(d, 3 * d, bias=False), nn.Linear(3 * d, d, bias=False)) for _ in range(n)
            )
        self.shared_experts = nn.Linear(d, d)
        if top_k is not None:
            self.top_k = top_k
        if config is not None:
            self.config = config


class TestExperts:
    @pytest.mark.parametrize("fused", [False, True])
    @pytest.mark.parametrize("k", [1, 2, 5])
    def test_active_against_the_formula(self, fused, k):
        n, d = 5, 4
        rest = d * n + d * d + d
        for model, arguments in [
            (Moe(n, d, fused), {"active_experts": (k, n)}),
            (Moe(n, d, fused), {"active_experts": k}),
            (Moe(n, d, fused, top_k=k), {}),
            (Moe(n, d, fused, config=SimpleNamespace(num_experts_per_tok=k)), {}),
            (nn.Sequential(Moe(n, d, fused, top_k=k)), {}),
        ]:
            got = count_params(model, **arguments)
            assert got.total == rest + n * 6 * d * d
            assert got.active == rest + k * 6 * d * d
            assert got.inactive_trainable == (n - k) * 6 * d * d

    def test_declared_beats_detected(self):
        got = count_params(Moe(4, 2, fused=True, top_k=1), active_experts=(4, 4))
        assert got.active == got.total

    def test_unknown_top_k(self):
        with pytest.raises(InputError, match=r"'experts' holds 5 experts, but .* Pass active_experts=\(k, 5\)"):
            count_params(Moe(5, 4, False))

    def test_a_sampling_top_k_far_away_is_not_believed(self):
        model = nn.Sequential(nn.Sequential(Moe(5, 4, False)))
        model.top_k = 3
        with pytest.raises(InputError, match="top-k"):
            count_params(model)

    def test_declared_without_experts(self):
        with pytest.raises(InputError, match=r"active_experts=\(2, 8\): the module has no .* with 8 experts"):
            count_params(nn.Linear(2, 2), active_experts=(2, 8))

    @pytest.mark.parametrize("bad", [0, (3, 2), (1, 2, 3), True, (1.5, 2), ()])
    def test_bad_declaration(self, bad):
        with pytest.raises(InputError, match=r"is not k or \(k, n\) with 0 < k <= n"):
            count_params(Moe(5, 4, False), active_experts=bad)

    def test_unequal_experts(self):
        model = nn.ModuleDict({"experts": nn.ModuleList([nn.Linear(2, 2), nn.Linear(2, 3)])})
        with pytest.raises(InputError, match=r"2 experts differ in size \(6 to 9 parameters\)"):
            count_params(model, active_experts=1)


class TestUnknownSizes:
    def test_no_parameters(self):
        with pytest.raises(InputError, match=r"module=ReLU has no parameters to count. Build its layers first"):
            count_params(nn.ReLU())

    def test_lazy(self):
        with pytest.raises(InputError, match=r"parameter '0.weight' is lazy and has no shape yet"):
            count_params(nn.Sequential(nn.LazyLinear(3)))

    def test_deepspeed_stage_3(self):
        """ZeRO-3 leaves an empty tensor and keeps the size beside it."""
        layer = nn.Linear(3, 4, bias=False)
        layer.weight = nn.Parameter(torch.empty(0))
        layer.weight.ds_numel, layer.weight.ds_shape = 12, (4, 3)
        assert count_params(layer).total == 12

    def test_four_bit(self):
        class Params4bit(nn.Parameter):
            pass

        layer = nn.Linear(4, 4, bias=False)
        layer.weight = Params4bit(torch.zeros(8, 1))
        with pytest.raises(InputError, match="4-bit weight whose full shape is not known"):
            count_params(layer)
        layer.weight.quant_state = SimpleNamespace(shape=torch.Size((4, 4)))
        assert count_params(layer).total == 16


@pytest.fixture
def one_process_group():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    before = {key: os.environ.get(key) for key in ("MASTER_ADDR", "MASTER_PORT")}
    os.environ.update(MASTER_ADDR="127.0.0.1", MASTER_PORT=str(port))
    dist.init_process_group("gloo", rank=0, world_size=1)
    yield
    dist.destroy_process_group()
    for key, value in before.items():
        os.environ.pop(key) if value is None else os.environ.update({key: value})


class TestSharded:
    def test_a_dtensor_reports_the_whole(self):
        """Two ranks simulated by a fake group: this rank holds half of each matrix, and N is all of it."""
        from torch.distributed.device_mesh import init_device_mesh
        from torch.distributed.tensor import DTensor, Shard, distribute_module, distribute_tensor
        from torch.testing._internal.distributed.fake_pg import FakeStore

        dist.init_process_group("fake", store=FakeStore(), rank=0, world_size=2)
        try:
            mesh = init_device_mesh("cpu", (2,))
            model = GPT(20, 8, 4, 1, tied=True)
            whole = count_params(copy.deepcopy(model))

            def shard(_, sub, mesh):
                for name, param in list(sub.named_parameters(recurse=False)):
                    if not isinstance(param, DTensor):
                        sub.register_parameter(name, nn.Parameter(distribute_tensor(param, mesh, [Shard(0)])))

            model = distribute_module(model, mesh, shard)
            model.out.weight = model.tok.weight
            assert model.tok.weight.to_local().numel() == 40
            assert count_params(model) == whole
        finally:
            dist.destroy_process_group()

    @pytest.mark.filterwarnings("ignore")
    def test_fsdp1_is_an_error(self, one_process_group):
        from torch.distributed.fsdp import FullyShardedDataParallel

        wrapped = FullyShardedDataParallel(nn.Linear(3, 3), device_id=torch.device("cpu"), use_orig_params=True)
        with pytest.raises(InputError, match="is wrapped by FSDP1, whose parameters are this rank's flat shards"):
            count_params(nn.Sequential(wrapped))


class TestConventions:
    def test_by(self):
        count = ParamCount(total=100, body=60, embedding=30, head=10, trainable=100, active=80)
        assert (count.by("total"), count.by("body"), count.by("active")) == (100, 60, 80)

    def test_unknown(self):
        count = ParamCount(total=100, body=60, embedding=30, head=10, trainable=100, active=80)
        with pytest.raises(InputError, match="convention='non-embedding' is none of 'total', 'body', 'active'"):
            count.by("non-embedding")

    def test_an_empty_body(self):
        with pytest.raises(InputError, match="convention='body' leaves 0 parameters of 40"):
            count_params(nn.Embedding(10, 4)).by("body")

    def test_roles_must_add_up(self):
        with pytest.raises(InputError, match=r"body \+ embedding \+ head = 99 is not total=100"):
            ParamCount(total=100, body=59, embedding=30, head=10, trainable=100, active=80)


class TestTransformers:
    """Hugging Face models from config objects, on the meta device: no weights."""

    def test_gpt2(self):
        transformers = pytest.importorskip("transformers")
        v, c, d, layers = 256, 64, 32, 3
        config = transformers.GPT2Config(vocab_size=v, n_positions=c, n_embd=d, n_layer=layers, n_head=2)
        with torch.device("meta"):
            got = count_params(transformers.GPT2LMHeadModel(config))
        # Attention 4 d^2 + 4 d, MLP 8 d^2 + 5 d, two norms 4 d a layer; one norm at the end.
        body = layers * (12 * d * d + 13 * d) + 2 * d
        assert (got.body, got.embedding, got.head, got.tied) == (body, (v + c) * d, 0, v * d)
        assert got.total == body + (v + c) * d

    @pytest.mark.parametrize("tied", [False, True])
    def test_llama(self, tied):
        transformers = pytest.importorskip("transformers")
        v, d, f, layers, kv = 256, 64, 256, 2, 32
        config = transformers.LlamaConfig(
            vocab_size=v, hidden_size=d, intermediate_size=f, num_hidden_layers=layers, num_attention_heads=4,
            num_key_value_heads=2, tie_word_embeddings=tied,
        )  # fmt: skip
        with torch.device("meta"):
            got = count_params(transformers.LlamaForCausalLM(config))
        body = layers * (2 * d * d + 2 * d * kv + 3 * d * f + 2 * d) + d
        assert (got.body, got.embedding, got.head, got.tied) == (body, v * d, 0 if tied else v * d, v * d * tied)

    @pytest.mark.parametrize(
        ("kind", "settings"),
        [("Mixtral", {"num_local_experts": 4}), ("Olmoe", {"num_experts": 4})],
    )
    def test_mixture_of_experts(self, kind, settings):
        transformers = pytest.importorskip("transformers")
        config = getattr(transformers, f"{kind}Config")(
            vocab_size=64, hidden_size=16, intermediate_size=32, num_hidden_layers=2, num_attention_heads=4,
            num_key_value_heads=2, num_experts_per_tok=1, pad_token_id=0, bos_token_id=1, eos_token_id=2, **settings,
        )  # fmt: skip
        with torch.device("meta"):
            got = count_params(getattr(transformers, f"{kind}ForCausalLM")(config))
        assert got.total - got.active == 2 * 3 * (3 * 16 * 32)
