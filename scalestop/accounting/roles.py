"""Which parameters of a module are embeddings, and which are the output head.

Kaplan et al. 2020 (arXiv 2001.08361, section 2.1) leave vocabulary and positional embeddings out of N; Hoffmann et al.
2022 (arXiv 2203.15556) count everything. To serve both, a parameter has one of three roles: embedding, head, body.
The roles are found without running the model, so they rest on types, shapes and names; the limits are stated on each
function, and ``count_params(embedding=..., head=...)`` overrides them.
"""

from __future__ import annotations

import re
from collections.abc import Iterable

from torch import nn

from scalestop.errors import InputError

#: What a user may name a part by: a dotted name, a module, a parameter, or several of them.
Selection = str | nn.Module | nn.Parameter | Iterable[str | nn.Module | nn.Parameter]

# Attribute names of bare (module-less) embedding tables: wte, wpe, pos_emb, position_embeddings, token_embedding, ...
_EMBEDDING_NAME = re.compile(
    r"(wte|wpe|embed|embedding|embeddings|embed_tokens|embed_positions"
    r"|((tok|token|word|vocab|pos|position|positional|absolute_pos|segment|type)s?_?"
    r"(emb|embs|embed|embeds|embedding|embeddings|enc|encoding|encodings|table)))(_weight|_table)?"
)
_POSITION_NAME = re.compile(r"wpe|pos")
# Names that mean an output head wherever they stand and whatever their shape.
_HEAD_NAME = re.compile(r"(.*_)?(lm_?heads?|unembed(ding)?s?|embed_out|to_logits)")
# Names that decide between several layers of the head's shape; too common to be believed without that shape.
_LIKELY_HEAD_NAME = re.compile(r"(.*_)?(heads?|logits|output|out|decoder|vocab_proj|fc_out|output_layer|output_proj)")


def select(module: nn.Module, what: Selection, argument: str) -> dict[int, str]:
    """Resolve a user's selection to parameters of ``module``, as ``{id(parameter): name}``.

    A module stands for all parameters in it; an empty selection selects nothing.

    Raises:
        InputError: A name or module is not part of ``module``, or holds no parameter.
    """
    items = [what] if isinstance(what, str | nn.Module | nn.Parameter) else list(what)
    modules = dict(module.named_modules(remove_duplicate=False))
    params = dict(module.named_parameters(remove_duplicate=False))
    known_modules = {id(m) for m in modules.values()}
    names = {id(p): name for name, p in reversed(params.items())}
    found: dict[int, str] = {}
    for item in items:
        if isinstance(item, str) and item not in modules and item not in params:
            near = [n for n in modules if n and n.rpartition(".")[2] == item.rpartition(".")[2]][:3]
            hint = f"; did you mean {', '.join(map(repr, near))}?" if near else ""
            raise InputError(
                f"{argument}={item!r}: the module has no submodule or parameter of that name{hint} "
                "Give a dotted name as in module.named_modules(), the module itself, or () for none."
            )
        target = item if not isinstance(item, str) else params[item] if item in params else modules[item]
        if isinstance(target, nn.Module):
            ids, inside = [id(p) for p in target.parameters()], id(target) in known_modules
        else:
            ids, inside = [id(target)], id(target) in names
        if not inside or not ids:
            label = repr(item) if isinstance(item, str) else type(item).__name__
            raise InputError(
                f"{argument}={label}: it {'holds no parameter' if inside else 'is not part of the module'}. Give a "
                "dotted name as in module.named_modules(), a module or parameter inside it, or () for none."
            )
        found.update((i, names[i]) for i in ids)
    return found


def find_embeddings(module: nn.Module) -> dict[int, str]:
    """Parameters that are lookup tables: token, position and type embeddings alike.

    The rule: every parameter of an ``nn.Embedding`` or ``nn.EmbeddingBag``; the direct 2-D parameters of a module
    whose class is called ``...Embedding``; and a bare ``nn.Parameter`` of 2 or 3 dimensions registered under a name
    such as ``wte``, ``wpe``, ``pos_emb``, ``token_embedding``.

    Limits: a bare table under another name counts as body; rotary and sinusoidal encodings have no parameters; patch
    embeddings (a convolution or linear layer) are matmuls and count as body. Returns ``{id(parameter): name}``, with
    the first registered name of each.
    """
    found: dict[int, str] = {}
    for prefix, sub in module.named_modules():
        table = isinstance(sub, nn.Embedding | nn.EmbeddingBag)
        named = type(sub).__name__.endswith("Embedding")
        for name, param in sub.named_parameters(recurse=False):
            bare = 2 <= param.ndim <= 3 and _EMBEDDING_NAME.fullmatch(name) is not None
            if table or bare or (named and param.ndim == 2):
                found.setdefault(id(param), f"{prefix}.{name}" if prefix else name)
    return found


def find_head(module: nn.Module, embeddings: dict[int, str]) -> tuple[dict[int, str], tuple[str, ...]]:
    """Parameters of the output head (the un-embedding), a tied matrix included.

    In this order, the first that finds something wins:

    1. ``get_output_embeddings()`` of a Hugging Face model anywhere inside.
    2. A layer that shares its matrix with an embedding (tied weights).
    3. A layer or bare parameter called ``lm_head``, ``unembed``, ``embed_out``, ``to_logits`` or the like.
    4. An ``nn.Linear`` (or a bare parameter) whose shape is a token table's, outside the repeated blocks: with a
       vocabulary of 256 and a width of 64, every block's MLP has the head's shape too.

    Limits: a head tied inside ``forward`` (``F.linear(x, embedding.weight)``) is invisible, and needs no finding: its
    matrix is an embedding already. A classifier over labels is not an un-embedding and stays in the body. Returns
    ``{id(parameter): name}`` and notes on choices between several candidates.
    """
    heads = _declared_heads(module) or _tied_heads(module, embeddings)
    if heads:
        return _params_of(module, heads), ()
    named = [name for name, _ in _matrices(module, embeddings) if _HEAD_NAME.fullmatch(_last_word(name))]
    if named:
        return _params_of(module, named), ()
    shapes = _token_table_shapes(module, embeddings)
    candidates = [
        name
        for name, (out_features, in_features) in _matrices(module, embeddings)
        if ((out_features, in_features) in shapes or (_is_bare(module, name) and (in_features, out_features) in shapes))
        and not _in_block(module, name)
    ]
    if len(candidates) <= 1:
        return _params_of(module, candidates), ()
    likely = [name for name in candidates if _LIKELY_HEAD_NAME.fullmatch(_last_word(name))]
    chosen = likely or candidates[-1:]
    note = (
        f"output head: {', '.join(map(repr, chosen))} taken out of {len(candidates)} layers of its shape "
        f"({', '.join(map(repr, candidates))}); pass head= if that is wrong"
    )
    return _params_of(module, chosen), (note,)


def _declared_heads(module: nn.Module) -> list[str]:
    names = {id(sub): name for name, sub in module.named_modules()}
    heads = []
    for sub in module.modules():
        getter = getattr(sub, "get_output_embeddings", None)
        if not callable(getter):
            continue
        try:
            head = getter()
        except (NotImplementedError, AttributeError):  # how Hugging Face models without a head have answered
            continue
        if isinstance(head, nn.Module) and id(head) in names:
            heads.append(names[id(head)])
    return list(dict.fromkeys(heads))


def _tied_heads(module: nn.Module, embeddings: dict[int, str]) -> list[str]:
    return [
        prefix
        for prefix, sub in module.named_modules()
        if not isinstance(sub, nn.Embedding | nn.EmbeddingBag)
        and any(embeddings.get(id(p), prefix + ".").rpartition(".")[0] != prefix for p in sub.parameters(False))
    ]


def _matrices(module: nn.Module, embeddings: dict[int, str]) -> Iterable[tuple[str, tuple[int, int]]]:
    """``(name, (out, in))`` of each Linear and of each bare 2-D parameter named as a head could be."""
    for prefix, sub in module.named_modules():
        if isinstance(sub, nn.Linear):
            yield prefix, (sub.out_features, sub.in_features)
            continue
        for name, param in sub.named_parameters(recurse=False):
            likely = _HEAD_NAME.fullmatch(name) or _LIKELY_HEAD_NAME.fullmatch(name)
            if likely and param.ndim == 2 and id(param) not in embeddings:
                yield (f"{prefix}.{name}" if prefix else name), (int(param.shape[0]), int(param.shape[1]))


def _token_table_shapes(module: nn.Module, embeddings: dict[int, str]) -> set[tuple[int, int]]:
    """Shapes ``(vocabulary, width)`` of the tables that are not positional by name; a head has one of them."""
    params = {id(p): p for p in module.parameters()}
    tables = [
        (name, params[i])
        for i, name in embeddings.items()
        if params[i].ndim == 2 and not _POSITION_NAME.search(_last_word(name.removesuffix(".weight")))
    ]
    return {(int(p.shape[0]), int(p.shape[1])) for _, p in tables}


def _last_word(name: str) -> str:
    """The last part of a dotted name that says something: not an index, not a wrapper's ``base_layer``."""
    parts = [p for p in name.split(".") if not p.isdigit() and p not in ("base_layer", "weight")]
    return parts[-1].lower() if parts else ""


def _is_bare(module: nn.Module, name: str) -> bool:
    return name not in dict(module.named_modules())


def _in_block(module: nn.Module, name: str) -> bool:
    """Whether the layer lies inside a repeated block: an item of a list, or a composite item of a Sequential."""
    parts = name.split(".")
    sub = module
    for depth, part in enumerate(parts[:-1]):
        parent, sub = sub, getattr(sub, part)
        if isinstance(parent, nn.ModuleList | nn.ModuleDict):
            return True
        plain = isinstance(sub, nn.Sequential | nn.ModuleList | nn.ModuleDict)
        if isinstance(parent, nn.Sequential) and not plain and depth < len(parts) - 1:
            return True
    return False


def _params_of(module: nn.Module, names: list[str]) -> dict[int, str]:
    modules = dict(module.named_modules(remove_duplicate=False))
    params = dict(module.named_parameters(remove_duplicate=False))
    found: dict[int, str] = {}
    for name in names:
        if name in modules:
            for sub, param in modules[name].named_parameters(remove_duplicate=False):
                found.setdefault(id(param), f"{name}.{sub}" if name else sub)
        else:
            found.setdefault(id(params[name]), name)
    return found
