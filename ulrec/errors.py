"""Every error ulrec raises on purpose: each says what was expected, what came, and what to do."""

__all__ = [
    "ArtefactError",
    "ConfigError",
    "DataError",
    "Interrupted",
    "MissingExtraError",
    "NotFittedError",
    "TrainingError",
    "ULRecError",
]


class ULRecError(Exception):
    """Base of all errors raised on purpose by ulrec."""


class ConfigError(ULRecError, ValueError):
    """A configuration names an unknown key or holds a value of the wrong type or range."""


class DataError(ULRecError, ValueError):
    """A table, an array or a media file is not what it has to be."""


class ArtefactError(ULRecError):
    """An artefact on disk is missing, damaged, or was made from something else."""


class NotFittedError(ULRecError):
    """A fitted object was used before ``fit``."""


class MissingExtraError(ULRecError, ImportError):
    """An optional dependency is absent; the message names the pip line that brings it."""


class TrainingError(ULRecError):
    """Training cannot go on: a loss is not finite, or the latent carries nothing."""


class Interrupted(ULRecError):
    """Work was stopped by a signal after its state was saved; run the same command to go on."""
