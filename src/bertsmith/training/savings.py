"""What a checkpoint of a training holds, and how a training goes on from one.

The weights that are learned, AdamW's moments, the random generators of every rank, the Trainer's own state (step,
history, best epoch), and how far the work had come. The schedule, the order of the rows and early stopping are
functions of step and history, so they need no saving.
"""

from __future__ import annotations

import json
import random
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import torch

from bertsmith import ranks
from bertsmith.errors import CheckpointError
from bertsmith.training.checkpoints import Checkpoint, Checkpoints

_STATE = "state.json"
_TRAINER_STATE = "trainer_state.json"  # as transformers calls it: the Trainer reads it


class Savings:
    """The checkpoints of one training, as its Trainer writes and reads them.

    Attributes:
        start: The checkpoint that training begins from; None begins anew.
    """

    def __init__(  # noqa: PLR0913 - what a checkpoint holds, and who is told
        self,
        checkpoints: Checkpoints,
        learned: Mapping[str, torch.nn.Parameter],
        *,
        facts: Mapping[str, Any],
        steps_an_epoch: int,
        warn: Callable[[str], None],
        beside: Beside | None = None,
        start: Checkpoint | None = None,
    ) -> None:
        """Keep `learned` in `checkpoints`.

        Args:
            checkpoints: Where they lie.
            learned: Every parameter that is learned at some time, by name.
            facts: What `state.json` says beyond the state: versions, threads, the rate's scale.
            steps_an_epoch: After so many a checkpoint is one that training cannot go on without.
            warn: Told when a checkpoint inside an epoch could not be written.
            beside: A number that is learned beside the parameters.
            start: Where training goes on from.
        """
        self._checkpoints = checkpoints
        self._learned = learned
        self._facts = facts
        self._steps_an_epoch = steps_an_epoch
        self._warn = warn
        self._beside = beside
        self._warned = False
        self.start = start
        self._newest = [] if start is None else [start.step]

    def save(self, trainer: Any) -> None:
        """Write a checkpoint of this step; all ranks must call it.

        Raises:
            CheckpointError: It cannot be written, and it is one that training cannot go on without.
        """
        of_ranks = ranks.gather(_OfRank.of(trainer))
        problem = self._write(trainer, of_ranks) if ranks.is_first() else None
        problem = ranks.agree(problem)
        if problem is None:
            return
        if trainer.state.global_step % self._steps_an_epoch == 0:
            run = self._checkpoints.folder.parent
            tip = f"Make room or mend the folder, then go on with: bertsmith train --resume {run}"
            raise CheckpointError(problem.message, tip=tip)
        if not self._warned:
            self._warned = True
            self._warn(f"{problem.message} Training goes on; it can be resumed from the checkpoint before.")

    def _write(self, trainer: Any, of_ranks: list[_OfRank]) -> CheckpointError | None:
        state = trainer.state
        own = {
            **self._facts,
            "finished": bool(trainer.control.should_training_stop),
            "best_step": state.best_global_step,
            "work": asdict(trainer.work),
            "beside": None if self._beside is None else self._beside.get(),
            "generators": [each.others for each in of_ranks],
            "logged": [each.logged for each in of_ranks],
        }
        tensors = {
            "weights": {name: parameter.detach() for name, parameter in self._learned.items()},
            "optimizer": self._moments(trainer.optimizer),
            "generators": {
                f"{rank}.{name}": value for rank, each in enumerate(of_ranks) for name, value in each.torch.items()
            },
        }
        texts = {_TRAINER_STATE: json.dumps(asdict(state), indent=2), _STATE: json.dumps(own, indent=2)}
        try:
            self._checkpoints.save(state.global_step, tensors=tensors, texts=texts)
            self._newest = [*self._newest[-1:], state.global_step]
            self._checkpoints.keep({*self._newest, *([state.best_global_step] if state.best_global_step else [])})
        except CheckpointError as error:
            return error
        return None

    def load_weights(self, checkpoint: Checkpoint) -> None:
        """Copy a checkpoint's weights into the parameters."""
        stored = checkpoint.tensors("weights")
        with torch.no_grad():
            for name, parameter in self._learned.items():
                parameter.copy_(stored[name])
        if self._beside is not None:
            self._beside.set(state_of(checkpoint)["beside"])

    def load_optimizer(self, trainer: Any) -> None:
        """Put AdamW's moments back, and the schedule at its step."""
        assert self.start is not None
        stored = self.start.tensors("optimizer")
        optimizer = _own(trainer.optimizer)
        for name, parameter in self._learned.items():
            found = {key: stored[f"{name}.{key}"] for key in _MOMENTS if f"{name}.{key}" in stored}
            if found:
                optimizer.state[parameter] = {
                    key: value if key == "step" else value.to(parameter.device) for key, value in found.items()
                }
        schedule, step = trainer.lr_scheduler, self.start.step
        rates = [base * share(step) for base, share in zip(schedule.base_lrs, schedule.lr_lambdas, strict=True)]
        for group, rate in zip(optimizer.param_groups, rates, strict=True):
            group["lr"] = rate
        schedule.last_epoch, schedule._step_count, schedule._last_lr = step, step + 1, rates

    def load_generators(self) -> dict[str, Any]:
        """Put this rank's random generators back; return the loss since the last logged step, and that step."""
        assert self.start is not None
        rank, state = ranks.number(), state_of(self.start)
        others, logged = state["generators"], state["logged"][min(rank, len(state["logged"]) - 1)]
        if rank >= len(others):
            return {**logged}
        stored = self.start.tensors("generators")
        torch.set_rng_state(stored[f"{rank}.cpu"])
        if f"{rank}.cuda" in stored and torch.cuda.is_available():
            torch.cuda.set_rng_state(stored[f"{rank}.cuda"])
        random.setstate(_tuples(others[rank]["python"]))
        np.random.set_state(_tuples(others[rank]["numpy"]))  # noqa: NPY002 - libraries draw from it
        return {**logged}

    def _moments(self, optimizer: Any) -> dict[str, torch.Tensor]:
        inner = _own(optimizer)
        return {
            f"{name}.{key}": inner.state[parameter][key]
            for name, parameter in self._learned.items()
            if parameter in inner.state
            for key in _MOMENTS
        }


_MOMENTS = ("step", "exp_avg", "exp_avg_sq")


class Beside:
    """A number that a training learns beside its parameters: how far the weights of unused tokens have decayed."""

    def __init__(self, holder: Any, name: str) -> None:
        """Read and write `name` of `holder`."""
        self._holder = holder
        self._name = name

    def get(self) -> float:
        """Read it."""
        return float(getattr(self._holder, self._name))

    def set(self, value: float) -> None:
        """Write it."""
        setattr(self._holder, self._name, value)


def state_of(checkpoint: Checkpoint) -> dict[str, Any]:
    """Read what a checkpoint says of itself."""
    state: dict[str, Any] = checkpoint.read_json(_STATE)
    return state


def needed(checkpoint: Checkpoint) -> list[int]:
    """Give the steps of other checkpoints that this one cannot do without: the best one's."""
    best = state_of(checkpoint)["best_step"]
    return [] if best in (None, checkpoint.step) else [best]


@dataclass(frozen=True)
class _OfRank:
    """What differs between ranks: random generators (torch's as tensors, others as JSON has them), unlogged loss."""

    torch: dict[str, torch.Tensor]
    others: dict[str, Any]
    logged: dict[str, float]

    @classmethod
    def of(cls, trainer: Any) -> _OfRank:
        found = {"cpu": torch.get_rng_state()}
        if torch.cuda.is_available():
            found["cuda"] = torch.cuda.get_rng_state()
        name, keys, *rest = np.random.get_state()  # noqa: NPY002 - libraries draw from it
        others = {"python": random.getstate(), "numpy": [name, np.asarray(keys).tolist(), *rest]}
        begun = trainer.state.global_step > 0
        logged = {
            "loss": float(trainer._tr_loss) if begun else 0.0,
            "step": trainer._globalstep_last_logged if begun else 0,
        }
        return cls(found, others, logged)


def _own(optimizer: Any) -> Any:
    """Take AdamW out of accelerate's wrapper, where it is in one."""
    return getattr(optimizer, "optimizer", optimizer)


def _tuples(value: Any) -> Any:
    """Turn JSON's lists back into tuples."""
    return tuple(_tuples(each) for each in value) if isinstance(value, list) else value
