"""Scoring whole files: every row gets an answer, in constant memory."""
