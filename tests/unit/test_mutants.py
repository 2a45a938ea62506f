"""The seeded faults of tests/mutants can still be put in, and what is said of them holds."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

from tests.mutants.copies import ROOT, Mutated, passed, places, sources
from tests.mutants.faults import FAULTS, Fault

SOURCES = sources(ROOT)


@pytest.mark.parametrize("fault", FAULTS, ids=lambda fault: fault.name)
def test_a_fault_fits_in_one_place_and_gives_valid_python(fault: Fault) -> None:
    [file] = places(fault, SOURCES)
    assert fault.old != fault.new
    ast.parse(SOURCES[file].replace(fault.old, fault.new))


@pytest.mark.parametrize("fault", FAULTS, ids=lambda fault: fault.name)
def test_its_tests_exist_and_are_of_its_tier(fault: Fault) -> None:
    assert fault.tests
    for name in (test for test in fault.tests if test.startswith("tests/")):
        file, _, function = name.partition("::")
        assert f"def {function}" in (ROOT / file).read_text()
        assert name.startswith("tests/unit/") is (fault.tier == "unit")


def test_there_are_twenty_faults_that_the_quick_tier_should_catch() -> None:
    assert len({fault.name for fault in FAULTS if fault.tier != "all"}) >= 20


def test_tests_are_run_on_the_copy_and_the_copy_is_restored(tmp_path: Path) -> None:
    package = tmp_path / "labkit"
    package.mkdir()
    (package / "__init__.py").write_text("ANSWER = 42\n")
    (tmp_path / "test_it.py").write_text("import labkit\ndef test_it():\n    assert labkit.ANSWER == 42\n")
    fault = Fault("the answer is wrong", "ANSWER = 42", "ANSWER = 41", ("test_it.py",))
    assert passed(tmp_path, fault.tests)[0]
    with Mutated(tmp_path, fault):
        good, words = passed(tmp_path, fault.tests)
    assert not good and "assert 41 == 42" in words
    assert (package / "__init__.py").read_text() == "ANSWER = 42\n"


def test_tests_that_do_not_run_prove_nothing(tmp_path: Path) -> None:
    with pytest.raises(RuntimeError, match="exited with code 4"):
        passed(tmp_path, ("missing.py",))
