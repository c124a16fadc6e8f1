"""why: which words an answer rests on, and how far such marks can be trusted."""
