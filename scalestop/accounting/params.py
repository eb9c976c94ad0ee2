"""How many parameters a model has, under each convention a scaling law may use."""

from __future__ import annotations

from dataclasses import dataclass, field

from torch import nn

from scalestop.accounting.experts import inactive_params
from scalestop.accounting.roles import Selection, find_embeddings, find_head, select
from scalestop.accounting.sizes import full_numel, refuse_flat_shards
from scalestop.errors import InputError

CONVENTIONS = ("total", "body", "active")


@dataclass(frozen=True)
class ParamCount:
    """Parameters of a model by role. ``total == body + embedding + head``, every parameter in exactly one of them.

    Attributes:
        total: All parameters, tied weights once (Hoffmann et al. 2022 count so).
        body: Without token and position embeddings and without the output head (Kaplan et al. 2020, section 2.1).
        embedding: In lookup tables, token and position alike; a matrix tied to the head is counted here.
        head: Of the output head, without a matrix tied to an embedding: 0 for a tied head without a bias.
        trainable: With ``requires_grad``, in all roles.
        active: That one token passes: ``total``, less the experts that a token is not routed to.
        tied: In matrices that are embedding and head at once; part of ``embedding``.
        body_trainable: With ``requires_grad``, in the body.
        inactive_trainable: With ``requires_grad``, in experts that a token does not pass (``total - active`` is
            the number of all of those).
        notes: Choices made in the counting, for people.
    """

    total: int
    body: int
    embedding: int
    head: int
    trainable: int
    active: int
    tied: int = 0
    body_trainable: int = 0
    inactive_trainable: int = 0
    notes: tuple[str, ...] = field(default=(), compare=False)

    def __post_init__(self) -> None:
        if self.total <= 0:
            raise InputError(
                f"ParamCount.total={self.total}: a model to budget has parameters. Count after the layers exist "
                "(configure_model) and before they are sharded away."
            )
        if self.body + self.embedding + self.head != self.total:
            raise InputError(
                f"ParamCount: body + embedding + head = {self.body + self.embedding + self.head} is not "
                f"total={self.total}. Give each parameter one role."
            )

    def by(self, convention: str) -> int:
        """N as a law counts it.

        Args:
            convention: ``"total"``, ``"body"`` (no embeddings, no head) or ``"active"`` (what one token passes).

        Returns:
            Number of parameters, above zero.

        Raises:
            InputError: Another convention, or a count of zero (a model that is nothing but embeddings and a head).
        """
        if convention not in CONVENTIONS:
            raise InputError(f"convention={convention!r} is none of {', '.join(map(repr, CONVENTIONS))}.")
        count: int = getattr(self, convention)
        if count <= 0:
            raise InputError(
                f"convention={convention!r} leaves {count} parameters of {self.total}: the model has nothing but "
                "embeddings and an output head, or they were mistaken. Pass embedding= and head=, or use a law that "
                "counts 'total'."
            )
        return count


def count_params(
    module: nn.Module,
    *,
    embedding: Selection | None = None,
    head: Selection | None = None,
    active_experts: int | tuple[int, int] | None = None,
) -> ParamCount:
    """Count the parameters of a module; nothing is run, and a meta-device module works.

    Tied weights count once. Embeddings and head are found by type, shape and name; see
    :mod:`scalestop.accounting.roles` for the rules and their limits, and override them where they are wrong.
    Buffers are not parameters. A frozen second model kept inside (a teacher, an average of the weights) is counted.

    Args:
        module: The model, of any ``nn.Module`` kind; sharded by FSDP2 it gives the global count.
        embedding: Names, modules or parameters that are the embeddings, instead of the detected ones; ``()`` for none.
        head: The same for the output head.
        active_experts: ``k`` or ``(k, n)`` of a mixture of experts, where its config does not say.

    Returns:
        The counts.

    Raises:
        InputError: No parameters at all; a lazy parameter or a FSDP1 shard (full size unknown); a name that is not in
            the module; experts without a known top-k.
    """
    refuse_flat_shards(module)
    params = {id(param): (name, param) for name, param in module.named_parameters()}
    sizes = {i: full_numel(param, name) for i, (name, param) in params.items()}
    if sum(sizes.values()) == 0:
        raise InputError(
            f"module={type(module).__name__} has no parameters to count. Build its layers first (Lightning: in "
            "configure_model), and count before a sharding strategy takes them away."
        )
    embeddings = find_embeddings(module) if embedding is None else select(module, embedding, "embedding")
    heads, head_notes = find_head(module, embeddings) if head is None else (select(module, head, "head"), ())
    inactive, expert_notes = inactive_params(module, active_experts)

    trains = {i for i, (_, param) in params.items() if param.requires_grad}
    body = sizes.keys() - embeddings.keys() - heads.keys()
    return ParamCount(
        total=sum(sizes.values()),
        body=sum(sizes[i] for i in body),
        embedding=sum(sizes[i] for i in embeddings),
        head=sum(sizes[i] for i in heads.keys() - embeddings.keys()),
        trainable=sum(sizes[i] for i in trains),
        active=sum(sizes.values()) - sum(inactive.values()),
        tied=sum(sizes[i] for i in heads.keys() & embeddings.keys()),
        body_trainable=sum(sizes[i] for i in body & trains),
        inactive_trainable=sum(inactive[i] for i in inactive.keys() & trains),
        notes=head_notes + expert_notes,
    )
