"""Neural networks, from tensors to features; they contain no distributions."""

from nelbo.nets.base import Net
from nelbo.nets.blocks import ConvBlock, DenseBlock
from nelbo.nets.causal import CausalTransformer
from nelbo.nets.conv import ConvDecoder, ConvEncoder
from nelbo.nets.flows import FlowTransforms
from nelbo.nets.gated_mlp import GatedMLP
from nelbo.nets.mlp import MLP
from nelbo.nets.projection import Projection
from nelbo.nets.residual_conv import ResidualConvDecoder, ResidualConvEncoder
from nelbo.nets.residual_mlp import ResidualMLP

__all__ = [
    "MLP",
    "CausalTransformer",
    "ConvBlock",
    "ConvDecoder",
    "ConvEncoder",
    "DenseBlock",
    "FlowTransforms",
    "GatedMLP",
    "Net",
    "Projection",
    "ResidualConvDecoder",
    "ResidualConvEncoder",
    "ResidualMLP",
]
