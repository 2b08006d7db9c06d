"""The pictures `kl`, the KL of each level and unit, and `kl_maps`, where in the image it is.

Shapes: N images, U units, h w map, C H W image.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import torch
from torch import Tensor

from nelbo.errors import ConfigError, positive_integer
from nelbo.pictures.levels import describe_event
from nelbo.pictures.picture import Drawing, Picture, Scene
from nelbo.pictures.sheet import Sheet, to_image
from nelbo.trace import Trace
from nelbo.views.grids import as_pictures, grid, joined
from nelbo.views.level_kls import LevelKL, brightest, draw_level_kls, map_rows


class KL(Picture):
    """The KL of q(z|x) and p(z) of each unit, a panel for each level, and where in a map it is, averaged over images.

    Arrays: kl (L,), and for each level, such as 2, kl2_units (U,) and, of maps, kl2_places (h, w), in nats; those of a
    level whose q or p does not factorise are left out.

    Args:
        limit: largest number of images, evenly spread over the split. Each has one sample of z.
    """

    takes_conditions = True

    def __init__(self, *, limit: int) -> None:
        self.limit = positive_integer("limit", limit)

    def __call__(self, scene: Scene) -> Drawing:
        """Draw the picture."""
        positions = scene.evenly_spaced(self.limit)
        kls = level_kls(_traces(scene, positions))
        total = sum(level.total for level in kls)
        names = [
            f"{f'level {number}: ' if len(kls) > 1 else ''}{describe_event(level.event)}, KL {level.total:.2f} nats"
            + (f" ({level.total / total:.0%})" if len(kls) > 1 and total > 0 else "")
            for number, level in enumerate(kls, start=1)
        ]
        title = f"{scene.name}: KL(q(z|x) || p(z)) of each unit, averaged over {len(positions):,} {scene.split} images"
        if len(kls) > 1:
            title += f"; {total:.2f} nats in all"
        arrays = {"kl": torch.tensor([level.total for level in kls])}
        for number, level in enumerate(kls, start=1):
            values = {f"kl{number}_units": level.units, f"kl{number}_places": level.places}
            arrays |= {name: value for name, value in values.items() if value is not None}
        return Drawing(to_image(draw_level_kls(kls, names, title)), arrays)


class KLMaps(Picture):
    """Where in images the KL of each level of maps is: averaged over many images, and drawn over single ones.

    Both have colours of their own: the labels say from how many nats on places are bright, in the average | in images.
    Arrays: x (N, C, H, W), and for each level of maps, such as 2, kl2 (N, h, w) of the images, and kl2_average (h, w),
    in nats, summed over channels.

    Args:
        columns: number of single images, evenly spread over the split.
        limit: largest number of images of the average.
    """

    takes_conditions = True

    def __init__(self, *, columns: int, limit: int) -> None:
        self.columns = positive_integer("columns", columns)
        self.limit = positive_integer("limit", limit)

    def __call__(self, scene: Scene) -> Drawing:
        """Draw the picture."""
        model = scene.model
        numbers = [number for number, event in enumerate(model.events, start=1) if len(event) == 3]
        if not numbers:
            hint = "has no level of maps (C, h, w), and a map of the KL needs one; draw kl instead"
            raise ConfigError("run", scene.name, hint)
        many, few = scene.evenly_spaced(self.limit), scene.evenly_spaced(self.columns)
        averages = level_kls(_traces(scene, many))
        mean_image = torch.cat([x.cpu() for x in scene.batches(many)]).mean(dim=0)
        singles = list(_traces(scene, few))
        x = torch.cat([trace.x.cpu() for trace in singles])
        arrays, means, maps, names = {"x": x}, [], [], ["image"]
        for number in numbers:
            average = averages[number - 1]
            if average.places is None:
                hint = f"has maps at level {number}, but q(z|x) or p(z) does not factorise over their places"
                raise ConfigError("run", scene.name, f"{hint}; draw kl instead")
            places = torch.cat([trace.latents[number - 1].kl_map.cpu() for trace in singles])
            arrays |= {f"kl{number}": places, f"kl{number}_average": average.places}
            means.append(average.places.unsqueeze(0))
            maps.append(places)
            shape = "x".join(map(str, average.event))
            bright = f"bright: {brightest(means[-1]):.2g} | {brightest(places):.2g}"
            names.append(f"level {number}: {shape}\n{average.total:.2f} nats\n{bright}")
        values = scene.model.value_range
        mean_image, shown = as_pictures(mean_image, values), as_pictures(x, values)
        picture = joined([grid(map_rows(mean_image.unsqueeze(0), means)), grid(map_rows(shown, maps))], dim=2)
        title = (
            f"{scene.name}: KL of each place of the maps of latents, in nats, on average and of {scene.split} images"
        )
        labels = [f"average of {len(many):,}", *[""] * len(x)]
        return Drawing(Sheet((picture.shape[1], picture.shape[2]), title, rows=names, columns=labels)(picture), arrays)


def _traces(scene: Scene, positions: Tensor) -> Iterator[Trace]:
    """Yield a trace with one sample of z of each batch of images.

    Raises:
        ConfigError: if the KL is not defined for the model.
    """
    for model, x in scene.given_batches(positions):
        trace = model.trace(x)
        if not trace.has_kl:
            hint = "has a deterministic code, whose KL is not defined; draw reconstructions instead"
            raise ConfigError("run", scene.name, hint)
        yield trace


def level_kls(traces: Iterable[Trace]) -> list[LevelKL]:
    """Return the KL of each level, top first, averaged over the images of traces."""
    by_level: list[list[tuple[Tensor, Tensor | None, Tensor | None]]] = []
    events: list[tuple[int, ...]] = []
    for trace in traces:
        if not by_level:
            by_level = [[] for _ in trace.latents]
            events = [tuple(latent.z.shape[2:]) for latent in trace.latents]
        for values, latent in zip(by_level, trace.latents, strict=True):
            try:
                units, places = latent.unit_kl.cpu(), latent.kl_map.cpu() if latent.z.ndim == 5 else None
            except NotImplementedError:  # q or p does not factorise
                units, places = None, None
            values.append((trace.over_samples(latent.kl).cpu(), units, places))
    return [
        LevelKL(event, float(_mean(kl) or 0.0), _mean(units), _mean(places))
        for event, (kl, units, places) in zip(events, (zip(*values, strict=True) for values in by_level), strict=True)
    ]


def _mean(batches: Iterable[Tensor | None]) -> Tensor | None:
    """Return the mean over the images of several batches; None if there are no values."""
    values = [batch for batch in batches if batch is not None]
    return torch.cat(values).mean(dim=0) if values else None
