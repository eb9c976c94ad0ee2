"""How many tokens a batch holds, without making the device wait.

Three counts differ: *processed* tokens cost FLOPs, padding included; *non-padding* tokens are
the D of a scaling law; tokens *in the loss* are those that a gradient came from. The first is a shape. The other two
need the masks' values: on the CPU they are read at once; on an accelerator they are summed there into 0-dim int64
tensors, and moved to the host only when somebody asks.
"""

from __future__ import annotations

import operator
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from scalestop.accounting.batches import describe, inspect_batch, refuse
from scalestop.accounting.readers import INTEGERS, Counts, Reader
from scalestop.errors import InputError, shown


@dataclass(frozen=True, slots=True)
class TokenCount:
    """Tokens of one batch, or of several.

    Attributes:
        processed: Tokens that went through the model, padding included.
        non_padding: Tokens that were not padding; an int, or a 0-dim int64 tensor on an accelerator until :meth:`read`.
        in_loss: Tokens with a label that is not ``ignore_index``; as ``non_padding``.
        samples: Rows of the batch; 0 where a user's function gave the tokens alone and no tensor showed the rows.
    """

    processed: int
    non_padding: int | Tensor
    in_loss: int | Tensor
    samples: int

    def __add__(self, other: TokenCount) -> TokenCount:
        """The counts of two batches; what is on a device stays there."""
        return TokenCount(
            self.processed + other.processed,
            self.non_padding + other.non_padding,
            self.in_loss + other.in_loss,
            self.samples + other.samples,
        )

    def read(self) -> TokenCount:
        """The same counts as ints; this waits for the device if one holds them, with one transfer."""
        accumulator = TokenAccumulator()
        accumulator.add(self)
        return accumulator.read()


#: A user's own rule: a batch in, its tokens out.
CountTokens = Callable[[Any], "int | TokenCount"]


class TokenCounter:
    """Counts the tokens of batch after batch, remembering how each structure of batch is to be read.

    Args:
        count_tokens: The user's own rule for a batch, instead of those of :func:`count_tokens`.
        ignore_index: Label value that carries no loss.
        encoder_decoder: Whether ``labels`` are a decoder's text (T5-like); None to tell from ``decoder_input_ids``.
    """

    #: Structures of batch remembered: ever new ones, such as dicts keyed by task, neither pile up nor slow the search.
    MOST_READERS = 16

    __slots__ = ("_counts", "_encoder_decoder", "_function", "_ignore_index", "_last", "_readers")

    def __init__(
        self,
        count_tokens: CountTokens | None = None,
        *,
        ignore_index: int = -100,
        encoder_decoder: bool | None = None,
    ) -> None:
        check_count_tokens(count_tokens)
        self._function = count_tokens
        self._ignore_index = ignore_index
        self._encoder_decoder = encoder_decoder
        # A run sees one structure, rarely a few (a loader per task): inspected once each, the latest first.
        self._readers: list[tuple[type, Reader]] = []
        # Batches are mostly of one size, and one count will do for all of them.
        self._counts: Counts | None = None
        self._last = TokenCount(0, 0, 0, 0)

    def __call__(self, batch: Any) -> TokenCount:
        """Count a batch, as :func:`count_tokens`; masked counts of a batch on an accelerator stay there.

        Raises:
            InputError: The batch cannot be read without guessing, or the user's function returned no count.
        """
        if self._function is not None:
            return _checked(self._function(batch), batch)
        kind = type(batch)
        for known, reader in self._readers:
            if known is kind:
                counts = reader.read(batch)
                if counts is not None:
                    # counts on a device are new ones each time, and comparing them would wait for it
                    if type(counts[1]) is not int or type(counts[2]) is not int:
                        return TokenCount(*counts)
                    if counts != self._counts:
                        self._counts, self._last = counts, TokenCount(*counts)
                    return self._last
        reader = inspect_batch(batch, self._ignore_index, self._encoder_decoder)
        counts = reader.read(batch)
        if counts is None:
            refuse(batch, "its parts do not fit together")
        self._readers.insert(0, (kind, reader))
        del self._readers[self.MOST_READERS :]
        return TokenCount(*counts)


def check_count_tokens(count_tokens: Any) -> None:
    """Check that a rule for a batch's tokens is a function, or None.

    Raises:
        InputError: It is neither.
    """
    if count_tokens is not None and not callable(count_tokens):
        raise InputError(
            f"count_tokens={shown(count_tokens)} is not a function. Pass one that takes a batch and returns an int or "
            "a TokenCount."
        )


def count_tokens(
    batch: Any,
    count_tokens: CountTokens | None = None,
    *,
    ignore_index: int = -100,
    encoder_decoder: bool | None = None,
) -> TokenCount:
    """Count the tokens of a batch.

    The rules, B rows of T tokens each:

    - An integer tensor ``[B, T]`` is token ids, none of them padding.
    - A dict (or Hugging Face ``BatchEncoding``) has them under ``input_ids``, else ``tokens``, ``inputs`` or ``x``;
      ``inputs_embeds [B, T, d]`` counts as T tokens a row. Non-zero in ``attention_mask`` is real: ``[B, T]`` of any
      dtype, or boolean / integer ``[B, T, T]`` and ``[B, 1, T, T]``, where a token is real if any query may attend to
      it. Without a mask (packed sequences with ``position_ids``) nothing is padding. ``labels`` (or ``targets``,
      ``target``, ``y``) of the input's shape say which tokens bear a loss; without them all real tokens do. A model
      that shifts labels inside drops one more position per row, which a batch cannot show.
    - A tuple or list: the first tensor is the input, a second integer tensor of the same shape its labels, and tensors
      of other dimensions (class labels) are ignored. The pair's tokens count once.
    - Encoder-decoder: both sides are processed. The decoder's text is ``decoder_input_ids``; under
      ``encoder_decoder=True`` it is else ``labels``, or a tuple's second tensor (shapes alone would flip the rule
      whenever two lengths agree). Its real tokens are those of ``decoder_attention_mask``, else those in the loss.
      Mind that each token passes only one half of N.
    - Batches of several loaders (CombinedLoader): a dict, tuple or list whose items are all dicts, tuples, lists or
      None is the sum of its items; None is an exhausted loader.

    Anything that fits no rule, or two, is an error: images, one-dimensional ids, additive float masks, a tuple of ids
    and 0/1 flags, of three tensors of one shape, of two texts.

    Args:
        batch: What the data loader gave.
        count_tokens: The user's own rule instead: batch in; an int, or a :class:`TokenCount`, out.
        ignore_index: Label value that carries no loss.
        encoder_decoder: Whether ``labels`` are a decoder's text; None to tell from ``decoder_input_ids``.

    Returns:
        The counts, all ints. For a batch on an accelerator this waits for the device: in a loop, use
        :class:`TokenCounter` with a :class:`TokenAccumulator`.

    Raises:
        InputError: The batch fits no rule, or the user's function returned no count.
    """
    return TokenCounter(count_tokens, ignore_index=ignore_index, encoder_decoder=encoder_decoder)(batch).read()


def is_encoder_decoder(module: nn.Module) -> bool | None:
    """What to pass as ``encoder_decoder``: True if a config in the module says so, else None (the batch tells).

    Args:
        module: The model, or a Lightning module around it.
    """
    configs = (getattr(sub, "config", None) for sub in module.modules())
    return True if any(getattr(config, "is_encoder_decoder", False) is True for config in configs) else None


def _checked(result: Any, batch: Any) -> TokenCount:
    """A user's function's answer as a TokenCount."""
    if isinstance(result, TokenCount):
        if not (_is_count(result.processed) and _is_count(result.samples)) or not all(
            _is_count(value) or _is_scalar(value) for value in (result.non_padding, result.in_loss)
        ):
            raise InputError(
                f"count_tokens returned {shown(result)}. Its counts must be ints of at least 0; non_padding and "
                "in_loss may be 0-dim integer tensors."
            )
        return result
    try:
        tokens = -1 if isinstance(result, bool | Tensor) else operator.index(result)
    except TypeError:  # no integer; a numpy array has an index and may refuse to give it
        tokens = -1
    if tokens < 0:
        got = describe(result) if isinstance(result, Tensor) else shown(result)
        raise InputError(
            f"count_tokens returned {got}. It must return the batch's number of tokens as an int (from shapes: "
            "x.numel()), or a TokenCount, whose non_padding and in_loss may be 0-dim tensors."
        )
    return TokenCount(tokens, tokens, tokens, _rows(batch))


def _is_count(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value >= 0


def _is_scalar(value: Any) -> bool:
    return isinstance(value, Tensor) and value.ndim == 0 and value.dtype in INTEGERS


def _rows(batch: Any) -> int:
    """Rows of the first tensor in sight, 0 if there is none."""
    if isinstance(batch, Tensor):
        return len(batch) if batch.ndim else 0
    items = batch.values() if isinstance(batch, Mapping) else batch if isinstance(batch, tuple | list) else ()
    return next((len(item) for item in items if isinstance(item, Tensor) and item.ndim), 0)


class TokenAccumulator:
    """Sums token counts; what is on a device is summed there and moved by :meth:`read` alone.

    Attributes:
        processed: Tokens processed so far, exact at any moment and without waiting.
        samples: Rows so far, likewise.
    """

    #: Device scalars kept before they are folded into one: an append is cheaper than a kernel per step.
    FOLD_EVERY = 64

    __slots__ = ("_known", "_pending", "processed", "samples")

    def __init__(self) -> None:
        self.reset()

    def reset(self) -> None:
        """Start again from zero."""
        self.processed = self.samples = 0
        # tokens that are no padding, and those in the loss: what is known of each, and what still lies on devices
        self._known = [0, 0]
        self._pending: list[list[Tensor]] = [[], []]

    def add(self, count: TokenCount) -> None:
        """Add a batch's count; nothing is read from a device."""
        self.processed += count.processed
        self.samples += count.samples
        if type(count.non_padding) is int and type(count.in_loss) is int:  # on the host, the short way
            self._known[0] += count.non_padding
            self._known[1] += count.in_loss
            return
        for which, value in enumerate((count.non_padding, count.in_loss)):
            if isinstance(value, Tensor):
                self._pending[which].append(value)
                if len(self._pending[which]) >= self.FOLD_EVERY:
                    self._pending[which] = list(_sum_on_device(self._pending[which]).values())
            else:
                self._known[which] += value

    def read(self) -> TokenCount:
        """All counts so far as ints: one transfer per device that holds some, none if no device does."""
        if any(self._pending):
            sums = [_sum_on_device(scalars) for scalars in self._pending]
            for device in sums[0].keys() | sums[1].keys():
                zero = torch.zeros((), dtype=torch.int64, device=device)
                both = torch.stack([part.get(device, zero) for part in sums]).tolist()
                self._known = [known + more for known, more in zip(self._known, both, strict=True)]
            self._pending = [[], []]
        return TokenCount(self.processed, self._known[0], self._known[1], self.samples)


def _sum_on_device(scalars: list[Tensor]) -> dict[torch.device, Tensor]:
    """One 0-dim int64 sum per device."""
    groups: dict[torch.device, list[Tensor]] = {}
    for scalar in scalars:
        groups.setdefault(scalar.device, []).append(scalar)
    return {device: torch.stack(group).sum() for device, group in groups.items()}
