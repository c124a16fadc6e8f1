"""report: what a run came to, for people."""
