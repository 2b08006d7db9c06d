"""How many samples are decoded at once."""

from __future__ import annotations

import pytest
import torch

from nelbo.evaluation import chunks, importance
from nelbo.evaluation.chunks import CPU_ELEMENTS, activations, images_at_once, samples_at_once
from tests.helpers.deep_models import make_hierarchy
from tests.helpers.factors import images, make_vae

SHAPE = (1, 8, 8)


def test_one_level_on_a_cpu_is_chunked_by_pixels() -> None:
    """The random numbers of a sample depend on the chunk, so recorded results hold as long as chunks stay the same."""
    for nets in ("mlp", "conv"):
        model = make_vae(nets, shape=SHAPE).eval()
        assert samples_at_once(model, images(shape=SHAPE)) == 12_500 == CPU_ELEMENTS // 64
        assert samples_at_once(model, images(shape=SHAPE), gradients=True) == 12_500
        assert images_at_once(model, images(shape=SHAPE), 10_000, 100) == 100


def test_activations_of_a_hierarchy_are_larger_than_its_images() -> None:
    """The decoder has 4 channels at 8 x 8 pixels."""
    model, x = (
        make_hierarchy("top_down", shape=SHAPE, layout=["1x1", "2x1", "4x1"]).eval(),
        images(count=1, shape=SHAPE),
    )
    largest, total = activations(model, x)
    assert largest == 4 * 64 and total > 3 * largest
    assert samples_at_once(model, images(shape=SHAPE)) == CPU_ELEMENTS // largest
    assert samples_at_once(model, images(shape=SHAPE), gradients=True) == CPU_ELEMENTS // total


def test_measuring_activations_leaves_the_model_and_the_random_state_as_they_were() -> None:
    model, x = make_hierarchy("ladder", shape=SHAPE).eval(), images(count=3, shape=SHAPE)
    before = torch.get_rng_state()
    assert samples_at_once(model, x) > 1
    assert torch.equal(torch.get_rng_state(), before)
    assert not any(module._forward_hooks for module in model.modules())


def test_memory_limits_the_images_whose_activations_are_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    model, x = make_hierarchy("ladder", shape=SHAPE).eval(), images(count=1, shape=SHAPE)
    assert images_at_once(model, x, 10, 100) == 100
    monkeypatch.setattr(chunks, "KEPT_ELEMENTS", 55 * activations(model, x)[1])
    assert images_at_once(model, x, 10, 100) == 5 and images_at_once(model, x, 10, 3) == 3
    assert images_at_once(model, x, 1000, 100) == 1


def test_accelerators_decode_more_at_once() -> None:
    """On the device `meta`, which has no data but is no CPU."""
    model = make_vae("conv", shape=SHAPE).eval().to("meta")
    x = torch.zeros(2, *SHAPE, device="meta")
    assert samples_at_once(model, x) > 10 * CPU_ELEMENTS // 64
    assert 1 < samples_at_once(model, x, gradients=True) < 2**26


@pytest.mark.parametrize("chunk", [1, 64, 10_000])
def test_the_estimate_does_not_depend_on_the_chunks_beyond_noise(monkeypatch: pytest.MonkeyPatch, chunk: int) -> None:
    """Every sample counts once, whatever the chunks are."""
    model, x = make_hierarchy("ladder", shape=SHAPE).double().eval(), images(count=2, shape=SHAPE).double()
    monkeypatch.setattr(chunks, "CPU_ELEMENTS", chunk)
    result = importance(model, x, 301, counts=[1, 7], keep_log_weights=True)
    assert result.log_weights is not None and result.log_weights.shape == (301, 2)
    torch.testing.assert_close(
        result.log_likelihood,
        result.log_weights.double().logsumexp(0) - torch.tensor(301.0).log(),
        atol=1e-4,
        rtol=1e-6,
    )
