"""The machine: its CPU is named in records, so that figures can be compared."""

from __future__ import annotations

import platform

import pytest

from bertsmith.machine import cpu_name


def test_the_cpu_is_named_as_its_maker_does(tmp_path):
    """The model name of the first processor is taken."""
    file = tmp_path / "cpuinfo"
    file.write_text("processor\t: 0\nmodel name\t: A Fine CPU @ 2 GHz\n\nmodel name\t: Another\n", encoding="utf-8")
    assert cpu_name(file) == "A Fine CPU @ 2 GHz"


@pytest.mark.parametrize("content", [None, "", "processor\t: 0\n", "model name\t: \n"])
def test_a_cpu_without_a_name_is_called_as_python_does(tmp_path, monkeypatch, content):
    """Where the system does not tell, it is the processor that Python knows, or at least its kind."""
    file = tmp_path / "cpuinfo"
    if content is not None:
        file.write_text(content, encoding="utf-8")
    monkeypatch.setattr(platform, "machine", lambda: "riscv64")
    monkeypatch.setattr(platform, "processor", lambda: "")
    assert cpu_name(file) == "riscv64"
    monkeypatch.setattr(platform, "processor", lambda: "RISC-V of a kind")
    assert cpu_name(file) == "RISC-V of a kind"
