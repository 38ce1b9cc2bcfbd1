"""Clip networks from the weights of picture networks.

A clip network has what the picture network has, and layers in time that start at zero: with the
picture's weights, and a latent frame for every frame, it does to each frame what the picture
network does, bit for bit. Where ``s`` frames share a latent frame, it starts from their mean, and
every one of them is decoded from it alike. Latents may have further channels, as four frames say
more than one: these come behind those there are, nothing listens to them yet, and all else stays as
it is.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from ulrec.checkpoint import Component
from ulrec.errors import ArtefactError

__all__ = ["inflate_weights"]

TEMPORAL = ("temporal", "over_frames", "norm_frames", "from_given", "given_std")
"""Parts of a name that belong to layers in time."""

REMEDY = "ask for the same networks, but for layers in time and further channels of the latent"

ANSWERS, TOLD = 0, 1
CHANNELS = {
    "encoder.out.weight": ANSWERS,
    "encoder.out.bias": ANSWERS,
    "decoder.from_z.weight": TOLD,
    "network.embed.weight": TOLD,
    "network.out.weight": ANSWERS,
    "network.out.bias": ANSWERS,
}
"""The axis of the latent's channels in weights that have one, by names without numbers."""


def inflate_weights(module: nn.Module, component: Component) -> None:
    """Give a freshly built module the weights of one like it, for pictures or for clips.

    Layers in time that the component lacks stay as they are: zero in what they add. In further
    channels of the latent an encoder answers as it was built; all that hears them starts at zero.

    Raises
    ------
    ArtefactError
        If anything else is missing or of another shape; the first difference is named.
    """
    state = module.state_dict()
    for name in sorted(state.keys() ^ component.tensors.keys()):
        if name in state and any(part in name.split(".") for part in TEMPORAL):
            continue
        where = "the file" if name in state else "the configured model"
        raise ArtefactError(f"weight '{name}' is missing in {where}; {REMEDY}")
    # A learned variance stands behind the means: there, more rows are no further channels.
    fixed = component.config.get("encoder", {}).get("variance", "fixed") == "fixed"
    for name, tensor in component.tensors.items():
        given, wanted = torch.from_numpy(tensor), state[name]
        axis = CHANNELS.get(".".join(part for part in name.split(".") if not part.isdigit()))
        if axis is not None and fixed:
            given = _wider(given, wanted, axis)
        state[name] = _inflated(name, given, wanted)
    module.load_state_dict(state)


def _wider(given: Tensor, wanted: Tensor, axis: int) -> Tensor:
    """Return a weight with as many channels of the latent as are wanted, if these are more."""
    more = wanted.shape[axis] - given.shape[axis]
    if more <= 0:
        return given
    if axis == TOLD:
        return torch.cat([given, given.new_zeros(len(given), more, *given.shape[2:])], dim=1)
    fresh = wanted[-more:].to(given)
    return torch.cat([given, fresh if given.ndim == 1 else fresh[:, : given.shape[1]]])


def _inflated(name: str, given: Tensor, wanted: Tensor) -> Tensor:
    """Return a weight at the shape that is wanted, repeated for the frames that share a latent."""
    if given.shape == wanted.shape:
        return given
    if name == "encoder.out.weight" and _times(given, wanted, axis=1):
        times = _times(given, wanted, axis=1)
        return given.repeat(1, times, 1, 1) / times
    if name.startswith("decoder.from_z.") and _times(given, wanted, axis=0):
        return given.repeat(_times(given, wanted, axis=0), *[1] * (given.ndim - 1))
    raise ArtefactError(
        f"weight '{name}' has shape {tuple(given.shape)}, the configuration asks for "
        f"{tuple(wanted.shape)}; {REMEDY}"
    )


def _times(given: Tensor, wanted: Tensor, *, axis: int) -> int:
    """Return how often ``given`` stands in ``wanted`` along an axis; 0 if it does not fit."""
    others = [n for n in range(given.ndim) if n != axis]
    fits = given.ndim == wanted.ndim and all(given.shape[n] == wanted.shape[n] for n in others)
    times, rest = divmod(wanted.shape[axis], given.shape[axis])
    return times if fits and not rest else 0
