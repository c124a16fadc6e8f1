"""Masked words: an encoder goes on learning from raw texts (`adapt`), and fills in words that are left out (`fill`)."""
