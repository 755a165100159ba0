"""From a machine's socket to the journal, and from the journal to the sinks."""
