"""A VAE whose label is a latent variable where it is unknown: the model M2 of Kingma et al. 2014.

Kingma, Mohamed, Rezende & Welling 2014, "Semi-supervised learning with deep generative models" (NeurIPS), section 3.

Shapes: S Monte Carlo samples, B batch, K classes, D latent dimensions, C H W image.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn
from torch.distributions import Distribution

from nelbo.distributions import DiagonalNormal, OneHots, code_of, sample_at, sample_with_density
from nelbo.heads import Likelihood, Posterior
from nelbo.models.conditioning import Conditioning
from nelbo.models.context import NO_CONTEXT, Context, call_with
from nelbo.models.inference import Inference
from nelbo.models.labels import both, check_label, for_classes, kept, label_of, reshaped, with_known
from nelbo.models.masked_inputs import MaskedInputs, of_observed, with_means
from nelbo.models.table_inputs import TableInputs
from nelbo.models.temperature import levels_of
from nelbo.models.vae import VAE, feature_shape
from nelbo.nets import Net
from nelbo.priors import Prior
from nelbo.trace import LabelLatent, Latent, Trace


class SemiSupervisedVAE(VAE):
    """p(y) p(z|y) p(x|z, y), with q(y|x) of a classifier and q(z|x, y).

    Its two levels are the label, one-hot, (1, K), and z. A trace has every class, weighted with q(y|x), so that all
    averages are exact sums over the classes; where the context has the label of an example, that class alone. Then its
    negative ELBO is a bound on -log p(x, y) (Kingma et al. 2014, eq. 6), otherwise on -log p(x) (eq. 7).

    Example:
        >>> from functools import partial
        >>> from nelbo.heads import Bernoulli, DiagonalNormalPosterior
        >>> from nelbo.nets import MLP
        >>> from nelbo.priors import StandardNormal
        >>> net = partial(MLP, hidden=[64], activation="Tanh")
        >>> label = partial(
        ...     Conditioning, names=["label"], kinds={"label": 3}, embedding=None, layers="modulation", prior=False)
        >>> vae = SemiSupervisedVAE(
        ...     shape=(1, 8, 8), latent_dim=4, encoder=net, posterior=DiagonalNormalPosterior, prior=StandardNormal,
        ...     decoder=net, likelihood=Bernoulli, conditioning=label, classifier=net)
        >>> x = torch.rand(16, 1, 8, 8).round()
        >>> vae.classify(x).shape  # q(y|x)
        torch.Size([16, 3])
        >>> trace = vae.trace(x, num_samples=2)
        >>> trace.log_px.shape, trace.over_samples(trace.kl).shape  # two samples of each class
        (torch.Size([6, 16]), torch.Size([16]))
        >>> vae.at(label=2).generate(5).mean.shape
        torch.Size([5, 1, 8, 8])

    Args:
        shape: (C, H, W) of the images, or (D,) of vectors.
        latent_dim: D.
        encoder: factory of the encoder network, called with `shape`.
        posterior: factory of q(z|x, y), called with the encoder's `out_shape` and D.
        prior: factory of p(z), called with the event shape of z and `shape`.
        decoder: factory of the decoder network, called with the shape of the posterior's embedding of z, and `shape`.
        likelihood: factory of p(x|z, y), called with the decoder's `out_shape` and `shape`.
        conditioning: factory of the label that the networks are given: one name, of classes.
        classifier: factory of the network of q(y|x), called with `shape`.
        inputs: factory of what encoder and classifier are given of x, called with `shape`; None for x itself.

    Raises:
        ConfigError: as `VAE`; or if the conditioning has another name, or is no class, or if z is no vector.
    """

    def __init__(
        self,
        *,
        shape: Sequence[int],
        latent_dim: int,
        encoder: Callable[..., Net],
        posterior: Callable[..., Posterior],
        prior: Callable[..., Prior],
        decoder: Callable[..., Net],
        likelihood: Callable[..., Likelihood],
        conditioning: Callable[[], Conditioning],
        classifier: Callable[..., Net],
        inputs: Callable[..., TableInputs | MaskedInputs] | None = None,
    ) -> None:
        super().__init__(
            shape=shape,
            latent_dim=latent_dim,
            encoder=encoder,
            posterior=posterior,
            prior=prior,
            decoder=decoder,
            likelihood=likelihood,
            conditioning=conditioning,
            inputs=inputs,
        )
        condition = self.conditioning
        assert condition is not None
        check_label(condition, self.posterior, self.events[0])
        ((self.label_name, self.classes),) = condition.classes.items()
        condition.has_default = True
        self.events = ((1, self.classes), *self.events)
        self.classifier = classifier(self.shape if self.inputs is None else self.inputs.out_shape)
        self.class_logits = nn.Linear(math.prod(feature_shape(self.classifier, "classifier")), self.classes)
        self.register_buffer("label_logits", torch.zeros(1, self.classes))

    @property
    def inferred_names(self) -> tuple[str, ...]:
        """The name of the label."""
        return (self.label_name,)

    def classify(self, x: Tensor, context: Context = NO_CONTEXT) -> Tensor:
        """Return q(y|x) of each class, (B, K).

        Args:
            x: images, (B, C, H, W), in [0, 1].
            context: what else the model takes, such as which entries of a row were observed.

        Raises:
            ValueError: as `infer`.
        """
        self.check_images(x)
        return self._logits(x, context).softmax(-1)

    def infer(self, x: Tensor, context: Context = NO_CONTEXT) -> Inference:
        """Return q(y|x) and p(y), and below them the encoder's features of x with each class, (B, K, ...)."""
        self.check_images(x)
        label = label_of(context, self.label_name, x, self.classes)

        def head(logits: Tensor) -> OneHots:
            return with_known(logits, label)

        logits = self._logits(x, context)
        below = self._features_of_every_class(x, context).unflatten(0, (self.classes, x.shape[0])).transpose(0, 1)
        return Inference(head(logits), self.top_prior(context), logits, head, (below,), context)

    def encode(self, x: Tensor, context: Context = NO_CONTEXT) -> Distribution:
        """Return q(y|x), batch shape (B,), event shape (1, K); see `infer`."""
        return self.infer(x, context).q

    def draw(
        self, x: Tensor, inference: Inference, num_samples: int, *, mode: bool = False, prior_from: int | None = None
    ) -> Trace:
        """Draw S samples of q(z|x, y) for every class y and evaluate p(x|z, y) at them; see `Model.draw`.

        The trace has S K samples, of which K that follow each other are the classes. With `mode` it has one: the most
        probable class, and the mode of its q(z|x, y).
        """
        (features,) = inference.below
        label = label_of(inference.context, self.label_name, x)
        q_label = inference.p.expand([x.shape[0]]) if prior_from == 0 else inference.q
        assert isinstance(q_label, OneHots)
        if mode:
            code = code_of(q_label)  # (B, 1, K)
            chosen = code.argmax(-1)  # (B, 1)
            context: Context = {**inference.context, self.label_name: chosen.squeeze(-1)}
            features = features.gather(1, chosen.reshape(-1, *[1] * (features.ndim - 1)).expand_as(features[:, :1]))
            codes, weights, alternatives, repeats = code.unsqueeze(0), None, 1, 1
        else:
            context = self._of_every_class(inference.context, x)
            weights = self.classes * q_label.base_dist.probs.squeeze(-2).T.repeat(num_samples, 1)
            codes = torch.eye(self.classes).to(weights)[:, None, None].expand(-1, x.shape[0], -1, -1)
            codes, alternatives, repeats = codes.repeat(num_samples, 1, 1, 1), self.classes, num_samples
        features = features.transpose(0, 1).repeat(repeats, *[1] * (features.ndim - 1))
        p = self._prior_of_samples(context, x.shape[0], repeats)
        q = p if prior_from in (0, 1) else self._q(features, context)
        leading, log_q = codes.shape[:2], None
        if mode:
            z = code_of(q).expand(*leading, -1)
        elif q is p:
            z = q.sample(() if q.batch_shape else leading)
        else:
            drawn, density = sample_with_density(q, 1)
            z, log_q = drawn.squeeze(0), None if density is None else density.squeeze(0)
        decoded = self._decoder_features(self.posterior.embed(z, q), context)
        px = call_with(self.likelihood, decoded, x, context=inference.context)  # which entries of x were observed
        px = of_observed(px, self.inputs, self.likelihood, inference.context)
        free = OneHots(inference.features.unsqueeze(-2))
        top = LabelLatent(q_label, inference.p, codes, None, weights, self.label_name, free, label)
        return Trace(x, px, (top, Latent(q, p, z, log_q, weights)), inference.context, alternatives)

    def top_prior(self, context: Context = NO_CONTEXT) -> Distribution:
        """Return p(y), uniform, batch shape ()."""
        assert isinstance(self.label_logits, Tensor)
        return OneHots(self.label_logits)

    def sample(
        self,
        n: int,
        temperature: float | Sequence[float] = 1.0,
        *,
        above: Sequence[Tensor] = (),
        context: Context = NO_CONTEXT,
    ) -> tuple[Tensor, ...]:
        """Return n samples of the label, (n, 1, K), and of z ~ p(z|y), (n, D); see `Model.sample`.

        A label that the context has is kept.
        """
        if len(above) == 2:
            return tuple(above)
        of_label, of_z = levels_of(temperature, 2)
        code = above[0] if above else sample_at(self.top_prior(), n, of_label)
        code = kept(code, context.get(self.label_name))
        p = super().top_prior({**context, self.label_name: code.argmax(-1).flatten()})
        return code, sample_at(p, n, of_z)

    def decode(self, *zs: Tensor, context: Context = NO_CONTEXT) -> Distribution:
        """Return p(x|z, y), whose batch shape is the leading shape of z.

        Args:
            zs: the label, one-hot, (..., 1, K), and z, (..., D).
            context: what the model is conditioned on; a label in it, (B,), replaces that of `zs` where it is known.
        """
        code, z = both(zs)
        label = kept(code, context.get(self.label_name)).argmax(-1).flatten()
        px: Distribution = super().decode(z, context={**context, self.label_name: label})
        return px

    def features(self, *zs: Tensor) -> Tensor:
        """Return the label, one-hot, and z if it is given, as vectors, (..., F)."""
        code, *below = zs
        vectors = [code.flatten(-2)]
        if below:
            (z,) = below
            vectors.append(self.posterior.embed(z))
        return torch.cat(vectors, dim=-1)

    @property
    def feature_size(self) -> int:
        """K, the number of numbers in `features` of the label."""
        return self.classes

    def log_prior(self, *zs: Tensor, context: Context = NO_CONTEXT) -> Tensor:
        """Return log p(y) + log p(z|y), (S, B), in nats."""
        code, z = both(zs)
        code = kept(code, context.get(self.label_name))
        label = code.argmax(-1).flatten()
        p = super().top_prior({**context, self.label_name: label})
        p = reshaped(p, z.shape[:-1]) if p.batch_shape else p
        log_prior: Tensor = self.top_prior().log_prob(code) + p.log_prob(z)
        return log_prior

    def unfold(self, top: Tensor, noise: Tensor, context: Context = NO_CONTEXT) -> tuple[Tensor, ...]:
        """Return the label and z = mu(y) + sigma(y) * noise; see `Model.unfold`.

        Raises:
            NotImplementedError: if p(z) is not a diagonal normal.
        """
        p = super().top_prior({**context, self.label_name: top.argmax(-1).flatten()})
        if not isinstance(p, DiagonalNormal):
            raise NotImplementedError(f"z is no function of normal noise with a prior of type {type(p).__name__}")
        p = reshaped(p, noise.shape[:-1]) if p.batch_shape else p
        return top, p.loc + p.scale * noise

    def example_context(self, count: int) -> Context:
        """Return no context: the label is inferred."""
        return NO_CONTEXT

    @torch.no_grad()
    def initialize(self, images: Tensor, context: Context = NO_CONTEXT) -> None:
        """Initialise encoder, classifier, likelihood and prior from training images; see `Model.initialize`."""
        super().initialize(images, context)
        if isinstance(self.classifier, Net):
            known = with_means(images, self.inputs, context)
            self.classifier.initialize(known if self.inputs is None else call_with(self.inputs, known, context=context))

    def _logits(self, x: Tensor, context: Context) -> Tensor:
        """Return the logits of q(y|x), (B, K)."""
        given = x if self.inputs is None else call_with(self.inputs, x, context=context)
        logits: Tensor = self.class_logits(self.classifier(given).flatten(1))
        return logits

    def _features_of_every_class(self, x: Tensor, context: Context) -> Tensor:
        """Return the encoder's features of x with every class, (K B, ...)."""
        every, condition = self._of_every_class(context, x), self.conditioning
        assert condition is not None
        if condition.layers == "modulation":
            return self.encoder_features(x.repeat(self.classes, *[1] * (x.ndim - 1)), every)
        given = x if self.inputs is None else call_with(self.inputs, x, context=context)
        features: Tensor = self.encoder(given)  # the same for every class, which joins it below
        features = features.repeat(self.classes, *[1] * (features.ndim - 1))
        return condition.joined(features, every, features.ndim - 1)

    def _of_every_class(self, context: Context, x: Tensor) -> Context:
        """Return the context of x with every class, (K B, ...) each."""
        return for_classes(
            {**context, self.label_name: label_of(context, self.label_name, x)}, self.label_name, self.classes
        )

    def _prior_of_samples(self, context: Context, count: int, repeats: int) -> Distribution:
        """Return p(z|y) of samples, batch shape (), or (S K, B)."""
        p = super().top_prior(context)
        if not p.batch_shape:
            return p
        classes = p.batch_shape[0] // count
        whole = reshaped(p, (classes, count))
        return DiagonalNormal(whole.loc.repeat(repeats, 1, 1), whole.scale.repeat(repeats, 1, 1))
