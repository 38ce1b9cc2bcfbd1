"""Weights split over processes (FSDP): each keeps a share, and gathers a block when it is used."""

from __future__ import annotations

from torch import Tensor, nn
from torch.distributed.device_mesh import DeviceMesh
from torch.distributed.fsdp import fully_shard
from torch.distributed.tensor import DTensor, distribute_tensor

from ulrec.training.compute import BLOCKS, NETWORKS

__all__ = ["gathered", "own_share", "split_weights", "whole"]


def split_weights(model: nn.Module, mesh: DeviceMesh) -> None:
    """Split the parameters of the parts of a model over the processes of a mesh.

    Networks are split block by block, and what is no network, such as a condition's sources, as a
    whole: it is used by its forward method only. Names in a state dict stay as they are.
    """
    for part in model.children():
        networks = [module for module in part.modules() if isinstance(module, NETWORKS)]
        for network in networks:
            for block in network.modules():
                if isinstance(block, BLOCKS):
                    fully_shard(block, mesh=mesh)
            fully_shard(network, mesh=mesh)
        if not networks:
            fully_shard(part, mesh=mesh)


def own_share(tensor: Tensor, like: Tensor | None = None) -> Tensor:
    """Return this process's share of a tensor, which is whole or split as ``like`` is.

    ``like`` is the tensor itself by default; where it is not split, the share is all of it.
    """
    like = tensor if like is None else like
    if not isinstance(like, DTensor):
        return tensor
    if not isinstance(tensor, DTensor):
        tensor = distribute_tensor(
            tensor.to(like.device), like.device_mesh, like.placements, src_data_rank=None
        )
    return tensor.to_local()


def gathered(share: Tensor, like: Tensor) -> Tensor:
    """Put the shares of all processes together, cut as ``like`` is; all of them have to call."""
    if not isinstance(like, DTensor):
        return share
    mesh, shape, stride = like.device_mesh, like.shape, like.stride()
    return whole(DTensor.from_local(share, mesh, like.placements, shape=shape, stride=stride))


def whole(tensor: Tensor) -> Tensor:
    """Return all of a tensor that may be split; all processes have to call."""
    return tensor.full_tensor() if isinstance(tensor, DTensor) else tensor
