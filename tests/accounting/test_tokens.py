"""Token counts against counting by hand, one token at a time."""

import itertools
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode

from scalestop.accounting import readers
from scalestop.accounting.tokens import (
    TokenAccumulator,
    TokenCount,
    TokenCounter,
    count_tokens,
    is_encoder_decoder,
)
from scalestop.errors import InputError


def ids(*shape, high=50):
    return torch.randint(2, high, shape)


def by_hand(mask=None, labels=None, ignore_index=-100):
    """Counts of real and loss-bearing tokens, element by element."""
    real = None if mask is None else sum(1 for value in mask.flatten().tolist() if value)
    loss = None if labels is None else sum(1 for value in labels.flatten().tolist() if value != ignore_index)
    return real, loss


@st.composite
def padded(draw):
    b, t = draw(st.integers(1, 5)), draw(st.integers(1, 9))
    lengths = torch.tensor(draw(st.lists(st.integers(0, t), min_size=b, max_size=b)))
    mask = torch.arange(t) < lengths[:, None]
    labels = torch.where(mask & (torch.rand(b, t) < 0.7), ids(b, t), -100)
    return ids(b, t), mask, labels


class TestDicts:
    @settings(deadline=None)
    @given(
        padded(), st.sampled_from([torch.bool, torch.int64, torch.int32, torch.uint8, torch.float32, torch.bfloat16])
    )
    def test_mask_and_labels(self, fields, dtype):
        x, mask, labels = fields
        real, loss = by_hand(mask, labels)
        batch = {"input_ids": x, "attention_mask": mask.to(dtype), "labels": labels}
        assert count_tokens(batch) == TokenCount(x.numel(), real, loss, len(x))
        del batch["labels"]
        assert count_tokens(batch) == TokenCount(x.numel(), real, real, len(x))

    @settings(deadline=None)
    @given(padded())
    def test_labels_without_a_mask(self, fields):
        x, _, labels = fields
        got = count_tokens({"input_ids": x, "labels": labels})
        assert got == TokenCount(x.numel(), x.numel(), by_hand(labels=labels)[1], len(x))

    @pytest.mark.parametrize("key", ["input_ids", "tokens", "inputs", "x"])
    @pytest.mark.parametrize("labels", ["labels", "targets", "target", "y"])
    def test_names(self, key, labels):
        target = torch.full((3, 7), -100)
        target[0, 0] = 1
        assert count_tokens({key: ids(3, 7), labels: target}) == TokenCount(21, 21, 1, 3)

    def test_another_ignore_index(self):
        labels = torch.tensor([[0, 3, 0, -100]])
        assert count_tokens({"input_ids": ids(1, 4), "labels": labels}, ignore_index=0).in_loss == 2

    def test_class_labels_bear_the_loss_of_the_row(self):
        mask = torch.tensor([[1, 1, 0], [1, 0, 0]])
        batch = {"input_ids": ids(2, 3), "attention_mask": mask, "labels": torch.tensor([0, 1])}
        assert count_tokens(batch) == TokenCount(6, 3, 3, 2)

    def test_packed_sequences(self):
        batch = {"input_ids": ids(1, 9), "position_ids": torch.tensor([[0, 1, 2, 0, 1, 0, 1, 2, 3]])}
        assert count_tokens(batch) == TokenCount(9, 9, 9, 1)

    def test_document_numbers_as_mask(self):
        """Packing collators write 1, 1, 2, 2, 2, 0: the number of the document, 0 for padding."""
        batch = {"input_ids": ids(1, 6), "attention_mask": torch.tensor([[1, 1, 2, 2, 2, 0]])}
        assert count_tokens(batch).non_padding == 5

    def test_embeddings_given_directly(self):
        batch = {"inputs_embeds": torch.zeros(2, 5, 8), "attention_mask": torch.ones(2, 5)}
        assert count_tokens(batch) == TokenCount(10, 10, 10, 2)

    @pytest.mark.parametrize("heads", [None, 1, 4])
    @pytest.mark.parametrize("causal", [False, True])
    @pytest.mark.parametrize("left", [False, True])
    def test_square_masks(self, heads, causal, left):
        lengths, t = [5, 2, 3], 5
        real = torch.stack([torch.arange(t) < n for n in lengths])
        real = real.flip(1) if left else real
        mask = real[:, None, :].expand(3, t, t)
        mask = mask.tril() if causal else mask
        mask = mask if heads is None else mask[:, None].expand(3, heads, t, t)
        assert count_tokens({"input_ids": ids(3, t), "attention_mask": mask}).non_padding == sum(lengths)

    def test_one_square_mask_for_all_rows(self):
        mask = torch.ones(1, 1, 6, 6, dtype=torch.bool).tril()
        assert count_tokens({"input_ids": ids(4, 6), "attention_mask": mask}).non_padding == 24

    def test_hugging_face_batch(self):
        transformers = pytest.importorskip("transformers")
        batch = transformers.BatchEncoding({"input_ids": ids(2, 4), "attention_mask": torch.tensor([[1, 1, 1, 0]] * 2)})
        assert count_tokens(batch) == TokenCount(8, 6, 6, 2)


class TestTensorsAndPairs:
    @pytest.mark.parametrize("dtype", [torch.int64, torch.int32, torch.int16, torch.uint8])
    def test_tensor(self, dtype):
        assert count_tokens(ids(4, 7).to(dtype)) == TokenCount(28, 28, 28, 4)

    @pytest.mark.parametrize("kind", [tuple, list])
    def test_a_pair_counts_once(self, kind):
        y = ids(4, 7)
        y[:, -2:] = -100
        assert count_tokens(kind([ids(4, 7), y])) == TokenCount(28, 28, 20, 4)
        assert count_tokens(kind([ids(4, 7)])) == TokenCount(28, 28, 28, 4)
        assert count_tokens(kind([ids(4, 7), torch.tensor([0, 1, 0, 1])])) == TokenCount(28, 28, 28, 4)
        assert count_tokens(kind([ids(4, 7), "names", torch.rand(4, 3)])) == TokenCount(28, 28, 28, 4)


class TestEncoderDecoder:
    source, target = ids(3, 8), ids(3, 5)
    mask = torch.tensor([[1] * 8, [1] * 6 + [0] * 2, [1] * 3 + [0] * 5])
    labels = torch.tensor([[4] * 5, [4] * 2 + [-100] * 3, [4] + [-100] * 4])

    def test_decoder_input_ids(self):
        batch = {"input_ids": self.source, "attention_mask": self.mask, "decoder_input_ids": self.target}
        assert count_tokens(batch) == TokenCount(24 + 15, 17 + 15, 15, 3)
        assert count_tokens({**batch, "labels": self.labels}) == TokenCount(39, 17 + 8, 8, 3)
        decoder_mask = torch.tensor([[1] * 5, [1] * 3 + [0] * 2, [1] * 2 + [0] * 3])
        both = {**batch, "labels": self.labels, "decoder_attention_mask": decoder_mask}
        assert count_tokens(both) == TokenCount(39, 17 + 10, 8, 3)

    def test_labels_are_the_decoders_text_when_told(self):
        batch = {"input_ids": self.source, "attention_mask": self.mask, "labels": self.labels}
        assert count_tokens(batch, encoder_decoder=True) == TokenCount(39, 25, 8, 3)

    def test_lengths_that_agree_do_not_flip_the_rule(self):
        counter = TokenCounter(encoder_decoder=True)
        for t in (5, 8, 5):
            assert counter({"input_ids": ids(3, 8), "labels": ids(3, t)}).processed == 24 + 3 * t

    def test_labels_of_another_length_without_being_told(self):
        with pytest.raises(
            InputError, match=r"'labels' \[3, 5\] is not aligned with 'input_ids' \[3, 8\].*encoder_decode"
        ):
            count_tokens({"input_ids": self.source, "labels": self.labels})

    def test_source_and_target_in_a_tuple(self):
        assert count_tokens((self.source, self.target), encoder_decoder=True) == TokenCount(39, 39, 15, 3)
        with pytest.raises(InputError, match="two integer tensors differ in shape"):
            count_tokens((self.source, self.target))

    def test_a_model_that_says_so(self):
        module = torch.nn.Linear(2, 2)
        assert is_encoder_decoder(torch.nn.Sequential(module)) is None
        module.config = SimpleNamespace(is_encoder_decoder=True)
        assert is_encoder_decoder(torch.nn.Sequential(module)) is True


class TestSeveralLoaders:
    def test_sums(self):
        masked = {"input_ids": ids(2, 3), "attention_mask": torch.tensor([[1, 1, 0], [1, 0, 0]])}
        pair = (ids(4, 5), ids(4, 5))
        expected = TokenCount(6 + 20, 3 + 20, 3 + 20, 6)
        assert count_tokens({"a": masked, "b": pair}) == expected
        assert count_tokens([masked, pair]) == expected
        assert count_tokens((masked, pair)) == expected
        assert count_tokens({"a": {"b": masked}, "c": [pair]}) == expected

    def test_an_exhausted_loader(self):
        counter = TokenCounter()
        pair = (ids(4, 5), ids(4, 5))
        assert counter([pair, pair]).processed == 40
        assert counter([pair, None]).processed == 20
        assert counter([None, pair]).processed == 20

    def test_a_dict_of_bare_tensors_is_not_loaders(self):
        with pytest.raises(InputError, match="no integer tensor under 'input_ids', 'tokens', 'inputs', 'x'"):
            count_tokens({"a": ids(2, 3), "b": ids(2, 3)})


class TestUsersFunction:
    def test_an_int(self):
        assert count_tokens([torch.zeros(3, 8, 8)], lambda batch: 3 * 64) == TokenCount(192, 192, 192, 3)
        assert count_tokens({"names": ["a"], "image": torch.zeros(5, 2)}, lambda batch: 7).samples == 5
        assert count_tokens(object(), lambda batch: 7) == TokenCount(7, 7, 7, 0)

    def test_a_token_count(self):
        lazy = TokenCount(9, torch.tensor(5), torch.tensor(4), 3)
        assert count_tokens(object(), lambda batch: lazy) == TokenCount(9, 5, 4, 3)

    @pytest.mark.parametrize(
        "bad",
        [
            *(None, 1.5, "9", True, -1, torch.tensor(9), TokenCount(-1, 0, 0, 0), TokenCount(9, 1.5, 9, 1)),
            *(TokenCount(9, torch.tensor(0.5), 9, 1), TokenCount(9, torch.ones(3, dtype=torch.int64), 9, 1)),
        ],
    )
    def test_anything_else(self, bad):
        with pytest.raises(InputError, match=r"count_tokens returned .*int"):
            count_tokens(object(), lambda batch: bad)

    def test_no_function(self):
        with pytest.raises(InputError, match="count_tokens=128 is not a function"):
            TokenCounter(128)


@pytest.mark.parametrize(
    ("batch", "message"),
    [
        ("text", r"it is neither a tensor, a dict, a tuple nor a list. Got str"),
        (torch.rand(2, 3), r"its input is float32, not token ids. Got float32 tensor \[2, 3\]"),
        (torch.ones(2, 3, dtype=torch.bool), "its input is bool"),
        (ids(5), r"token ids must be \[batch, sequence\]. Got int64 tensor \[5\]"),
        (ids(2, 3, 4), r"token ids must be \[batch, sequence\]"),
        ([torch.rand(2, 8, 8), torch.tensor([1, 2])], r"Got list\(float32 tensor \[2, 8, 8\], int64 tensor \[2\]\)"),
        ((ids(2, 3), ids(2, 3), ids(2, 3)), r"its 3 integer tensors .* could be input, mask and labels"),
        ((ids(2, 3), torch.ones(2, 3, dtype=torch.int64)), "item 1 holds only 0 and 1"),
        ((ids(2, 3), torch.ones(2, 3, dtype=torch.bool)), "item 1 holds only 0 and 1"),
        ({"pixel_values": torch.rand(2, 3, 8, 8)}, r"Got dict\('pixel_values': float32 tensor \[2, 3, 8, 8\]\)"),
        ({"x": ids(2, 3), "tokens": ids(2, 3)}, "'tokens' and 'x' could each be the input"),
        ({"x": ids(2, 3), "y": ids(2, 3), "target": ids(2, 3)}, "'target' and 'y' could each be the labels"),
        ({"input_ids": ids(2, 3), "attention_mask": torch.ones(2, 4)}, r"\[2, 4\] does not fit token ids \[2, 3\]"),
        ({"input_ids": ids(2, 3), "attention_mask": torch.zeros(2, 1, 3, 3)}, "an additive mask of floats"),
        ({"input_ids": ids(2, 3), "attention_mask": [1, 1]}, "'attention_mask' is a list, not a tensor"),
        ({"input_ids": [[1, 2], [3]]}, "it holds no tensor"),
        ({}, "no integer tensor under"),
        ([], "it holds no tensor"),
        (({"input_ids": ids(2, 3)}, ids(2, 3)), "it mixes tensors and dicts"),
    ],
)  # fmt: skip
def test_refused(batch, message):
    with pytest.raises(InputError, match=message) as error:
        count_tokens(batch)
    assert "Pass count_tokens=function" in str(error.value)


class TestCounter:
    def test_follows_the_structure(self):
        """Readings are remembered by structure; each batch still counts as it would alone."""
        mask = torch.tensor([[1, 0, 0]])
        batches = [
            ids(2, 3),
            ids(5, 1),
            (ids(2, 3), ids(2, 3)),
            (ids(2, 3),),
            (ids(2, 3), torch.tensor([1, 2])),
            {"input_ids": ids(1, 3)},
            {"input_ids": ids(1, 3), "attention_mask": mask},
            {"input_ids": ids(1, 3), "attention_mask": torch.ones(1, 3, 3).tril().bool()},
            {"input_ids": ids(1, 3), "labels": torch.tensor([[-100, 3, 4]])},
            {"input_ids": ids(1, 3), "labels": torch.tensor([3])},
            {"labels": torch.tensor([[-100, 3, 4]]), "input_ids": ids(1, 3)},
            [{"x": ids(2, 2)}, None],
        ]
        alone = [count_tokens(batch) for batch in batches]
        counter = TokenCounter()
        for order in itertools.islice(itertools.permutations(range(len(batches))), 0, 2_000, 97):
            for i in order:
                assert counter(batches[i]).read() == alone[i]

    def test_a_later_batch_that_cannot_be_read(self):
        counter = TokenCounter()
        counter((ids(2, 3), ids(2, 3)))
        with pytest.raises(InputError, match="two integer tensors differ"):
            counter((ids(2, 3), ids(2, 4)))
        counter({"input_ids": ids(2, 3)})
        with pytest.raises(InputError, match="not token ids"):
            counter({"input_ids": torch.rand(2, 3)})


class HostReads(TorchFunctionMode):
    """Counts calls that bring a value, or a tensor, from a device to the host, by method and by kernel."""

    METHODS = frozenset(
        {"item", "tolist", "cpu", "to", "numpy", "equal", "nonzero", "__bool__", "__int__", "__index__"}
    )

    def __init__(self):
        super().__init__()
        self.reads, self.ops = [], 0
        self.kernels = HostReadKernels()

    def __torch_function__(self, func, types, args=(), kwargs=None):
        name = getattr(func, "__name__", "")
        self.ops += name != "__get__"
        if name in self.METHODS:
            self.reads.append(name)
        return func(*args, **(kwargs or {}))

    def __enter__(self):
        self.kernels.__enter__()
        return super().__enter__()

    def __exit__(self, *exc):
        super().__exit__(*exc)
        self.kernels.__exit__(*exc)
        self.reads += self.kernels.reads


class HostReadKernels(TorchDispatchMode):
    def __init__(self):
        super().__init__()
        self.reads = []

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        if func.overloadpacket.__name__ in ("_local_scalar_dense", "equal", "nonzero", "_to_copy"):
            self.reads.append(func.overloadpacket.__name__)
        return func(*args, **(kwargs or {}))


@pytest.mark.parametrize("read", [float, int, bool, torch.Tensor.item, torch.Tensor.tolist, torch.Tensor.cpu])
def test_the_instrument_sees_a_read(read):
    with HostReads() as seen:
        read(torch.ones(()))
    assert seen.reads


def structures(device):
    x = torch.full((3, 8), 5, device=device)
    mask, labels = torch.ones_like(x), torch.full_like(x, 7)
    return {
        "tensor": x,
        "pair": (x, labels),
        "dict": {"input_ids": x},
        "masked": {"input_ids": x, "attention_mask": mask},
        "labelled": {"input_ids": x, "attention_mask": mask, "labels": labels},
        "decoder": {"input_ids": x, "attention_mask": mask, "decoder_input_ids": x, "labels": labels},
        "square": {"input_ids": x, "attention_mask": torch.ones(3, 8, 8, dtype=torch.bool, device=device)},
        "loaders": [{"input_ids": x, "attention_mask": mask}, (x, labels)],
    }


class TestNoSynchronisation:
    @pytest.mark.parametrize("name", structures("meta"))
    def test_a_step_never_needs_a_value(self, name):
        """Meta tensors have no values: reading one raises. So does this path, then, wait for none."""
        batch = structures("meta")[name]
        counter, accumulator = TokenCounter(), TokenAccumulator()
        for _ in range(3 * TokenAccumulator.FOLD_EVERY):
            accumulator.add(counter(batch))
        assert accumulator.processed == 3 * TokenAccumulator.FOLD_EVERY * counter(batch).processed
        assert accumulator.samples > 0

    @pytest.mark.parametrize("name", structures("meta"))
    def test_reads_on_the_device_path(self, name, monkeypatch):
        """The accelerator's path taken on the CPU: no read in any step after the first, two values at the end."""
        monkeypatch.setattr(readers, "_is_on_host", lambda tensor: False)
        batch = structures("cpu")[name]
        counter, accumulator = TokenCounter(), TokenAccumulator()
        expected = count_tokens(batch)
        accumulator.add(counter(batch))
        with HostReads() as steps:
            for _ in range(199):
                accumulator.add(counter(batch))
        assert steps.reads == []
        masked = name not in ("tensor", "dict")
        assert (steps.ops > 0) == masked
        with HostReads() as final:
            got = accumulator.read()
        assert final.reads == (["tolist"] if masked else [])
        assert got == TokenCount(*(200 * value for value in (
            expected.processed, expected.non_padding, expected.in_loss, expected.samples)))  # fmt: skip

    def test_on_the_cpu_values_are_read_in_place(self):
        """There is no device to wait for, and an int costs less than a tensor kept."""
        count = TokenCounter()(structures("cpu")["labelled"])
        assert (type(count.non_padding), type(count.in_loss)) == (int, int)

    @pytest.mark.gpu
    @pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
    @pytest.mark.parametrize("name", structures("meta"))
    def test_cuda(self, name):
        batch = structures("cuda")[name]
        counter, accumulator = TokenCounter(), TokenAccumulator()
        accumulator.add(counter(batch))
        torch.cuda.set_sync_debug_mode("error")
        try:
            for _ in range(199):
                accumulator.add(counter(batch))
        finally:
            torch.cuda.set_sync_debug_mode("default")
        one = count_tokens(structures("cpu")[name])
        assert accumulator.read().non_padding == 200 * one.non_padding


class TestAccumulator:
    @given(st.lists(st.tuples(*[st.integers(0, 2**40)] * 4, st.booleans()), max_size=200))
    @settings(deadline=None, max_examples=30)
    def test_sums_exactly(self, steps):
        accumulator = TokenAccumulator()
        for processed, non_padding, in_loss, samples, lazy in steps:
            scalars = (torch.tensor(non_padding), torch.tensor(in_loss)) if lazy else (non_padding, in_loss)
            accumulator.add(TokenCount(processed, *scalars, samples))
        expected = TokenCount(*(sum(step[i] for step in steps) for i in range(4)))
        assert accumulator.read() == expected
        assert accumulator.read() == expected
        assert all(type(getattr(accumulator.read(), name)) is int for name in TokenCount.__slots__)
        accumulator.reset()
        assert accumulator.read() == TokenCount(0, 0, 0, 0)

    def test_keeps_few_tensors(self):
        accumulator = TokenAccumulator()
        for _ in range(10 * TokenAccumulator.FOLD_EVERY):
            accumulator.add(TokenCount(1, torch.tensor(1), torch.tensor(1), 1))
        assert max(map(len, accumulator._pending)) < TokenAccumulator.FOLD_EVERY

    def test_lazy_counts_read_themselves(self):
        lazy = TokenCounter()({"input_ids": ids(2, 2), "attention_mask": torch.ones(2, 2, dtype=torch.bfloat16)})
        assert isinstance(lazy.non_padding, torch.Tensor)
        assert lazy.read() == TokenCount(4, 4, 4, 2)


def ragged(layout=torch.strided, dtype=torch.int64):
    return torch.nested.nested_tensor([torch.ones(2), torch.ones(3)], dtype=dtype, layout=layout)


class TestOddBatches:
    """Batches that torch itself chokes on: refused with what to do, and never read wrongly."""

    @pytest.mark.filterwarnings("ignore:.*nested tensors.*")
    @pytest.mark.parametrize("layout", [torch.strided, torch.jagged])
    @pytest.mark.parametrize("place", ["ids", "bare", "mask", "labels", "decoder", "embeds", "pair", "label of a pair"])
    def test_nested_tensors(self, layout, place):
        bad, good = ragged(layout), ids(2, 3)
        batch = {
            "ids": {"input_ids": bad},
            "bare": bad,
            "mask": {"input_ids": good, "attention_mask": bad},
            "labels": {"input_ids": good, "labels": bad},
            "decoder": {"input_ids": good, "decoder_input_ids": bad},
            "embeds": {"inputs_embeds": bad},
            "pair": (bad, good),
            "label of a pair": (good, bad),
        }[place]
        counter = TokenCounter()
        counter(good)  # a structure that is known by now, and may turn ragged
        counter({"input_ids": good, "attention_mask": good, "labels": good})
        counter((good, good))
        for _ in range(2):
            with pytest.raises(InputError, match="Pass count_tokens=function"):
                counter(batch)

    @pytest.mark.parametrize("name", ["input_ids", "attention_mask", "labels"])
    def test_sparse_tensors(self, name):
        batch = {"input_ids": ids(2, 3), "attention_mask": ids(2, 3), "labels": ids(2, 3)}
        with pytest.raises(InputError, match=f"{name}' is a sparse tensor"):
            count_tokens({**batch, name: batch[name].to_sparse()})
        assert count_tokens({**batch, "bystander": ids(2).to_sparse()}).processed == 6

    def test_a_part_that_changes_type(self):
        counter, x = TokenCounter(), ids(2, 3)
        assert counter({"a": {"input_ids": x}, "b": [x]}).processed == 12
        for part in ([x], (x, x), {"tokens": x}, {0: x, "input_ids": x}, [{"input_ids": x}, None], None):
            expected = {"a": part, "b": [x]}
            assert counter(expected).processed == TokenCounter()(expected).processed
        for outer in ([{"input_ids": x}, [x]], {"a": [x], "b": {"input_ids": x}}, ({"x": x}, {"x": x})):
            assert counter(outer).processed == 12
        for bad in (3, "text", x, {}, {"a": 3}, [3]):
            with pytest.raises(InputError):
                counter({"a": bad, "b": [x]})

    def test_a_list_of_loaders_whose_batch_becomes_a_dict(self):
        counter, x = TokenCounter(), ids(2, 3)
        assert counter([[{"x": x}, {"x": x}], None]).processed == 12
        assert counter([{"a": {"x": x}, "b": {"x": x}}, None]).processed == 12  # as long as the list was

    def test_ever_new_keys_neither_pile_up_nor_slow_the_search(self):
        """Work is counted in readings of readers, not in seconds."""
        counter, x = TokenCounter(), ids(2, 3)
        read = 0
        plain = readers.FieldReader.read

        def counted(self, batch):
            nonlocal read
            read += 1
            return plain(self, batch)

        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(readers.FieldReader, "read", counted)
            for i in range(2000):
                assert counter({"input_ids": x, f"task_{i}": 1}).processed == 6
        assert read <= 2000 * (counter.MOST_READERS + 1)
        assert len(counter._readers) == counter.MOST_READERS
        fresh = [type(f"Batch{i}", (dict,), {}) for i in range(100)]
        for kind in fresh:
            counter(kind(input_ids=x))
        assert len(counter._readers) == counter.MOST_READERS  # nor do classes made on the fly

    def test_batches_within_batches_without_end(self):
        batch: list = [{"input_ids": ids(2, 3)}]
        for _ in range(5):
            batch = [batch]
        assert count_tokens(batch).processed == 6
        for _ in range(5000):
            batch = [batch]
        with pytest.raises(InputError, match="more than 8 deep"):
            count_tokens(batch)
        looped: dict = {}
        looped["a"] = looped
        with pytest.raises(InputError, match="more than 8 deep"):
            count_tokens(looped)

    def test_a_huge_dict_is_described_in_a_line(self):
        with pytest.raises(InputError) as error:
            count_tokens({f"field_{i}": torch.zeros(2) for i in range(10_000)})
        assert len(str(error.value)) < 1000

    @pytest.mark.parametrize("answer", [np.arange(3), "12", 1.5, -1, True, None, torch.tensor([1, 2])])
    def test_a_users_function_that_returns_no_count(self, answer):
        with pytest.raises(InputError, match="count_tokens returned"):
            count_tokens(ids(2, 3), lambda _: answer)
