"""Pictures of a model and of images, without Lightning or data modules."""

from nelbo.pictures.by_class import ByClass, EveryClass
from nelbo.pictures.interpolation import Interpolation
from nelbo.pictures.kl import KL, KLMaps
from nelbo.pictures.level_reconstructions import LevelReconstructions
from nelbo.pictures.level_samples import LevelSamples
from nelbo.pictures.manifold import Manifold
from nelbo.pictures.picture import Drawing, Picture, Scene
from nelbo.pictures.posterior import Posterior
from nelbo.pictures.reconstructions import Reconstructions
from nelbo.pictures.samples import Samples
from nelbo.pictures.traversal import Traversal
from nelbo.views.images import Images

__all__ = [
    "KL",
    "ByClass",
    "Drawing",
    "EveryClass",
    "Images",
    "Interpolation",
    "KLMaps",
    "LevelReconstructions",
    "LevelSamples",
    "Manifold",
    "Picture",
    "Posterior",
    "Reconstructions",
    "Samples",
    "Scene",
    "Traversal",
]
