"""Frozen feature networks; other rooms receive the arrays they give, never the network."""
