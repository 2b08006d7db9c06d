"""Neural networks, from tensors to features; they contain no distributions."""

from nelbo.nets.base import Net
from nelbo.nets.causal import CausalTransformer
from nelbo.nets.conv import ConvDecoder, ConvEncoder
from nelbo.nets.flows import FlowTransforms
from nelbo.nets.mlp import MLP
from nelbo.nets.projection import Projection

__all__ = ["MLP", "CausalTransformer", "ConvDecoder", "ConvEncoder", "FlowTransforms", "Net", "Projection"]
