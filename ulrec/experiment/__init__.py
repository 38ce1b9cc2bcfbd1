"""The stages of a run, from a catalogue and its interactions to a report."""
