"""What differs between tasks and nothing else, behind one protocol (`protocol.py`)."""

from bertsmith.tasks.protocol import Metrics, Task
from bertsmith.tasks.single_label import SingleLabel

__all__ = ["Metrics", "SingleLabel", "Task"]
