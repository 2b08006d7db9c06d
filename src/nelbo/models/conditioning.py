"""Models of images given what is known of them: p(x|z, y) and q(z|x, y), and p(z|y) if chosen.

Sohn et al. 2015, "Learning structured output representation using deep conditional generative models" (NeurIPS).

Shapes: B batch, E numbers of a condition, D latent dimensions.
"""

from __future__ import annotations

import contextlib
import math
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn
from torch.distributions import Distribution
from torch.nn import functional

from nelbo.distributions import DiagonalNormal
from nelbo.errors import ConfigError, boolean, choice, integer, positive_integer
from nelbo.models.context import Context, required_names
from nelbo.models.gates import places_of_layers
from nelbo.models.kinds import check_numbers, checked_names, is_count, size_of
from nelbo.models.modulation import Modulated
from nelbo.models.rates import refuse_layers
from nelbo.numerics.devices import reads_freely
from nelbo.priors import DiagonalNormal as NormalPrior
from nelbo.priors import Prior, StandardNormal, VampPrior

if TYPE_CHECKING:
    from nelbo.models.model import Model

GIVEN = "given"
"""The entry of the provenance of results that says what is given in p(x|...)."""

LAYERS = ("modulation", "concatenation")
"""How networks are given the condition."""

Kinds = Mapping[str, int | Sequence[int]]
"""What each name stands for: the number of classes, or the shape of what one example has."""


class Condition:
    """The condition of the images that the networks are computing, which all layers share."""

    def __init__(self) -> None:
        self.value: Tensor | None = None

    def get(self) -> Tensor:
        """Return the condition, (B, E).

        Raises:
            RuntimeError: outside `Conditioning.at`.
        """
        if self.value is None:
            raise RuntimeError("the networks of a conditional model compute within `conditioning.at(context)` only")
        return self.value


class Conditioning(nn.Module):
    """What a model is conditioned on, and how its networks are given it.

    A label is one-hot, or has a learned vector; the label -1, unknown, is a vector of zeros. Numbers are standardised
    with the mean and the standard deviation of the training examples, which the checkpoint holds. Together these are
    the condition, a vector for each example.

    Args:
        names: the names of the context, such as `label`.
        kinds: for each of them the number of classes, or the shape of the numbers that one example has. A run fills
            this in from its data.
        embedding: the size of the learned vector of each label; None for one-hot.
        layers: `modulation` scales and shifts the result of every hidden layer by functions of the condition (Perez et
            al. 2018); `concatenation` joins the condition to the encoder's features and to the decoder's input.
        prior: whether p(z) too is conditioned, N(mu(y), sigma(y)^2) with mu and log sigma linear in the condition.

    Raises:
        ConfigError: for a value out of range.

    Example:
        >>> conditioning = Conditioning(
        ...     names=["label"], kinds={"label": 3}, embedding=None, layers="modulation", prior=False)
        >>> conditioning.condition({"label": torch.tensor([2, -1])})
        tensor([[0., 0., 1.],
                [0., 0., 0.]])
    """

    def __init__(
        self,
        *,
        names: Sequence[str],
        kinds: Kinds | None,
        embedding: int | None,
        layers: str,
        prior: bool,
    ) -> None:
        super().__init__()
        self.context_names = checked_names("names", names)
        if not isinstance(kinds, Mapping) or set(kinds) != set(names):
            hint = f"needs the number of classes or the shape of each of {', '.join(names)}; a run takes it of its data"
            raise ConfigError("kinds", kinds, hint)
        self.layers = choice("layers", layers, LAYERS)
        self.classes = {name: positive_integer(f"kinds.{name}", kinds[name]) for name in names if is_count(kinds[name])}
        self.sizes = {name: size_of(name, kinds[name]) for name in names if name not in self.classes}
        if embedding is not None:
            positive_integer("embedding", embedding)
        # By position, since the name of a column may be none that a module can have.
        self.places = {name: str(place) for place, name in enumerate(names)}
        self.vectors = nn.ModuleDict(
            {self.places[name]: nn.Linear(count, embedding, bias=False) for name, count in self.classes.items()}
            if embedding
            else {}
        )
        for name, size in self.sizes.items():
            self.register_buffer(f"mean_{self.places[name]}", torch.zeros(size))
            self.register_buffer(f"deviation_{self.places[name]}", torch.ones(size))
        self.size = sum(embedding or count for count in self.classes.values()) + sum(self.sizes.values())
        """E."""
        self.conditions_prior = boolean("prior", prior)
        self.prior: nn.Linear | None = None
        self.current = Condition()
        self.has_default = False
        """Whether the context may lack the condition, because the model infers it."""

    def join(self, shape: Sequence[int]) -> tuple[int, ...]:
        """Return the shape of features, or of the decoder's input, with the condition joined to them."""
        return tuple(shape) if self.layers == "modulation" else (math.prod(shape) + self.size,)

    def build(self, nets: Sequence[nn.Module], latent_dim: int) -> None:
        """Give networks the condition, and make p(z|y); called once, when the model is built.

        Args:
            nets: the networks, which are changed if layers are modulated.
            latent_dim: D.

        Raises:
            ConfigError: if no network has a hidden layer, or one has layers that do not allow it.
        """
        if self.conditions_prior:
            self.prior = nn.Linear(self.size, 2 * latent_dim)
            nn.init.zeros_(self.prior.weight)
            nn.init.zeros_(self.prior.bias)
        if self.layers == "concatenation":
            return
        if not all(places_of_layers(net) for net in nets):
            hint = "a network has no hidden layer to modulate; use model.conditioning.layers=concatenation"
            raise ConfigError("layers", self.layers, hint)
        for net in nets:
            refuse_layers(net, "layers", self.layers)
            for holder, name, layer, units in places_of_layers(net):
                setattr(holder, name, Modulated(layer, units, self.current.get, self.size))

    @contextlib.contextmanager
    def at(self, context: Context) -> Iterator[None]:
        """Within it, the networks compute at the given context."""
        outer, self.current.value = self.current.value, self.condition(context)
        try:
            yield
        finally:
            self.current.value = outer

    def condition(self, context: Context) -> Tensor:
        """Return the condition as vectors, (B, E).

        Args:
            context: each value (B, ...).

        Raises:
            ValueError: if a name is missing, numbers have another shape or, on the CPU, a label is not a class.
        """
        missing = [name for name in self.context_names if name not in context]
        if missing:
            raise ValueError(
                f"the model is conditioned on {', '.join(missing)}, which the context lacks; give "
                f"context={{{missing[0]!r}: a tensor with one value for each example}}"
            )
        return torch.cat([self._part(name, context[name]) for name in self.context_names], dim=-1)

    def _part(self, name: str, value: Tensor) -> Tensor:
        """Return what one name adds to the condition, (B, n)."""
        if (count := self.classes.get(name)) is None:
            if value[0].numel() != self.sizes[name]:
                raise ValueError(
                    f"{name} must have {self.sizes[name]} numbers for each example, not {value[0].numel()}"
                )
            mean, deviation = self._statistics(name)
            standardized: Tensor = (value.reshape(len(value), -1).to(mean) - mean) / deviation
            return standardized
        label = value.reshape(len(value)).long()
        if reads_freely(label.device) and len(label) and label.max() >= count:
            raise ValueError(f"{name} must be from 0 to {count - 1}, or -1 if unknown, not {int(label.max())}")
        dtype = next(iter(self.vectors.parameters())).dtype if self.vectors else torch.get_default_dtype()
        # One class more than there are, for unknown labels, which is then left out. Only the CPU reads values.
        place = torch.where((label >= 0) & (label < count), label, count)
        one_hot = functional.one_hot(place, count + 1)[:, :count].to(dtype)
        vector: Tensor = self.vectors[self.places[name]](one_hot) if self.vectors else one_hot
        return vector

    def joined(self, features: Tensor, context: Context, event_dimensions: int) -> Tensor:
        """Return features, or a code, with the condition joined to them; unchanged if layers are modulated.

        Args:
            features: (..., B, *event), or one event.
            context: each value (B, ...), or (1, ...) for all; a multiple of B if the dimension before it is of groups.
            event_dimensions: the number of dimensions of the event.
        """
        if self.layers == "modulation":
            return features
        condition = self.condition(context)
        leading = features.shape[: features.ndim - event_dimensions]
        flat = features.reshape(*leading, -1)
        if len(condition) == 1:
            condition = condition.expand(*leading, -1) if leading else condition[0]
        elif not leading or len(condition) % leading[-1] or math.prod(leading) % len(condition):
            count = leading[-1] if leading else 1
            raise ValueError(f"the condition is that of {len(condition)} examples, not of {count}")
        else:
            condition = condition.repeat(math.prod(leading) // len(condition), 1).reshape(*leading, -1)
        return torch.cat([flat, condition.to(flat.dtype)], dim=-1)

    def prior_of(self, p: Distribution, context: Context) -> Distribution:
        """Return p(z|y), batch shape (B,); p(z) itself if the prior is not conditioned.

        Args:
            p: p(z), a diagonal normal.
            context: each value (B, ...).
        """
        if self.prior is None:
            return p
        assert isinstance(p, DiagonalNormal)
        shift, log_scale = self.prior(self.condition(context)).chunk(2, dim=-1)
        scale = p.scale * log_scale.exp()
        return DiagonalNormal(p.loc + p.scale * shift, scale)

    def check(self, setting: Mapping[str, Any]) -> None:
        """Check values that are bound by `Model.at`.

        Raises:
            ConfigError: if a label is not one of the classes, or numbers have another shape.
        """
        for name, value in setting.items():
            if (count := self.classes.get(name)) is not None:
                if isinstance(value, Tensor) and value.numel() != 1:
                    hint = "is one label for all examples; model.given(context) takes one for each"
                    raise ConfigError(name, value.tolist(), hint)
                integer(name, value.item() if isinstance(value, Tensor) else value, minimum=-1, maximum=count - 1)
            elif name in self.sizes:
                check_numbers(name, value, self.sizes[name])

    def example(self, count: int) -> Context:
        """Return a context of zeros for `count` examples, from which shapes can be read."""
        like = next(self.parameters(), torch.zeros(()))
        labels = {name: torch.zeros(count, dtype=torch.int64, device=like.device) for name in self.classes}
        return labels | {name: torch.zeros(count, size, device=like.device) for name, size in self.sizes.items()}

    @torch.no_grad()
    def initialize(self, context: Context) -> None:
        """Set mean and standard deviation of numbers from training examples; a constant has the deviation 1.

        Args:
            context: each value (N, ...).
        """
        for name in self.sizes:
            values = context[name].reshape(len(context[name]), -1).double()
            deviation = values.std(dim=0, correction=0)
            mean, own = self._statistics(name)
            mean.copy_(values.mean(dim=0))
            own.copy_(torch.where(deviation > 0, deviation, 1.0))

    def _statistics(self, name: str) -> tuple[Tensor, Tensor]:
        """Return mean and standard deviation of numbers, (n,) each."""
        place = self.places[name]
        return getattr(self, f"mean_{place}"), getattr(self, f"deviation_{place}")


def check_conditioning(conditioning: Conditioning, prior: Prior, surface: nn.Module | None) -> None:
    """Check that the other parts of a model go with a condition.

    Raises:
        ConfigError: if they do not.
    """
    if surface is not None:
        raise ConfigError("conditioning", "label", "does not go with rates=... or nesting=...; choose one of them")
    if isinstance(prior, VampPrior):
        hint = "encodes each of its pseudo-inputs for every condition; use another prior with conditioning=..."
        raise ConfigError("prior", type(prior).__name__, hint)
    if conditioning.conditions_prior and not isinstance(prior, StandardNormal | NormalPrior):
        hint = "is not conditioned; with model.conditioning.prior=true use prior=standard_normal or diagonal_normal"
        raise ConfigError("prior", type(prior).__name__, hint)


def given_of(model: Model) -> dict[str, str]:
    """Return what of the data a model is conditioned on and is not bound, as an entry of the provenance of results."""
    names = required_names(model) if model.conditioning is not None else ()
    return {GIVEN: ", ".join(names)} if names else {}
