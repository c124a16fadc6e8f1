"""Fine-tune a BERT-family encoder on your own labelled text, know how good it is, and put it to work."""

__version__ = "0.1.0"
