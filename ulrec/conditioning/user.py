"""The source of users: its vectors are the factors of collaborative filtering."""

from ulrec.conditioning.source import Source, SourceConfig

__all__ = ["UserConditioner", "UserConditionerConfig"]

UserConditioner = Source
UserConditionerConfig = SourceConfig
