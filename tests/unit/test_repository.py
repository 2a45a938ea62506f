"""What a code host and a contributor's editor read: workflows, issue forms, hooks, scripts, citation, changelog."""

from __future__ import annotations

import os
import re
import shlex
import subprocess
import sys
import tomllib
from pathlib import Path
from typing import Any

import pytest
import yaml

ROOT = Path(__file__).resolve().parents[2]
GITHUB = ROOT / ".github"
WORKFLOWS = sorted((GITHUB / "workflows").glob("*.yml"))
FORMS = sorted(path for path in (GITHUB / "ISSUE_TEMPLATE").glob("*.yml") if path.name != "config.yml")
BIN = Path(sys.executable).parent
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
SKIPPED = {".git", ".venv", "build", "dist", "node_modules"}


def read(path: Path) -> Any:
    return yaml.safe_load(path.read_text())


WORKFLOW_STEPS = [
    pytest.param(step, id=f"{path.stem}-{job}-{number}")
    for path in WORKFLOWS
    for job, described in read(path)["jobs"].items()
    for number, step in enumerate(described["steps"])
]


@pytest.mark.parametrize(
    ("schema", "files"),
    [
        ("vendor.github-workflows", WORKFLOWS),
        ("custom.github-workflows-require-timeout", WORKFLOWS),
        ("vendor.github-issue-forms", FORMS),
        ("vendor.github-issue-config", [GITHUB / "ISSUE_TEMPLATE/config.yml"]),
        ("vendor.dependabot", [GITHUB / "dependabot.yml"]),
        ("vendor.citation-file-format", [ROOT / "CITATION.cff"]),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_files_follow_the_code_hosts_schema(schema: str, files: list[Path]) -> None:
    done = subprocess.run([BIN / "check-jsonschema", "--builtin-schema", schema, *files], capture_output=True, text=True)
    assert done.returncode == 0 and files, done.stdout + done.stderr


@pytest.mark.parametrize("workflow", WORKFLOWS, ids=lambda path: path.name)
def test_a_workflow_can_only_read_and_stops_its_older_runs(workflow: Path) -> None:
    described = read(workflow)
    assert described["permissions"] == {"contents": "read"}
    assert described["concurrency"]["group"].startswith(workflow.stem)
    may_more = {name: job["permissions"] for name, job in described["jobs"].items() if "permissions" in job}
    publishes = {"publish": {"pages": "write", "id-token": "write"}}
    assert may_more == (publishes if workflow.stem == "site" else {})


def test_what_may_publish_the_site_runs_no_code_of_the_repository_and_only_on_its_main_branch() -> None:
    jobs = read(GITHUB / "workflows/site.yml")["jobs"]
    assert [step["run"] for step in jobs["build"]["steps"] if "run" in step] == ["./course site"]
    assert [step["uses"].partition("@")[0] for step in jobs["publish"]["steps"]] == ["actions/deploy-pages"]
    assert jobs["publish"]["needs"] == "build"
    assert jobs["publish"]["if"] == "github.event_name == 'push' && github.ref_name == github.event.repository.default_branch"


@pytest.mark.parametrize("step", WORKFLOW_STEPS)
def test_a_step_is_an_action_of_one_commit_or_a_script_of_this_repository(step: dict[str, Any]) -> None:
    if "uses" in step:
        assert re.fullmatch(r"actions/[\w-]+@[0-9a-f]{40}", step["uses"])
        assert step["uses"].startswith("actions/checkout@") is (step.get("with", {}).get("persist-credentials") is False)
        return
    [line] = step["run"].strip().splitlines()
    words = shlex.split(line)
    for word in words[: 2 if words[0] == ".ci/root" else 1]:
        assert word.startswith(("./course", ".ci/")) and os.access(ROOT / word, os.X_OK)


def test_every_action_says_which_version_its_commit_is() -> None:
    for workflow in WORKFLOWS:
        lines = [line for line in workflow.read_text().splitlines() if "uses:" in line]
        assert lines and all(re.search(r"@[0-9a-f]{40} # v\d+\.\d+\.\d+$", line) for line in lines)


def test_the_quick_tier_runs_on_every_system_and_python_that_the_course_names() -> None:
    jobs = read(GITHUB / "workflows/tests.yml")["jobs"]
    assert jobs["debian"]["strategy"]["matrix"]["release"] == [12, 13]
    pythons = [re.search(r":: (3\.\d+)$", line) for line in PROJECT.get("classifiers", [])]
    named = [match[1] for match in pythons if match] or ["3.11", "3.12", "3.13", "3.14"]
    assert jobs["python"]["strategy"]["matrix"]["python"] == named
    assert jobs["ubuntu"]["steps"][1]["run"] == ".ci/root ./course test"


@pytest.mark.parametrize("form", FORMS, ids=lambda path: path.stem)
def test_an_issue_brings_what_doctor_says(form: Path) -> None:
    asked = [field for field in read(form)["body"] if "labkit doctor --json" in field.get("attributes", {}).get("label", "")]
    assert [field["attributes"]["render"] for field in asked] == ["json"]


def shell_scripts() -> list[Path]:
    """Shell scripts that run on a contributor's or learner's machine; those of the stand-ins' systems are the systems' own."""
    found = []
    for directory, folders, names in os.walk(ROOT):
        folders[:] = [name for name in folders if name not in SKIPPED and not name.startswith("files")]
        for path in (Path(directory, name) for name in names):
            if path.is_file() and re.match(rb"#!(/usr)?/bin/(env )?(ba)?sh\n", path.open("rb").read(40)):
                found.append(path)
    return found


def test_scripts_pass_shellcheck_and_can_be_run() -> None:
    scripts = shell_scripts()
    assert {ROOT / "course", ROOT / ".ci/debian", ROOT / "binder/start"} <= set(scripts)
    done = subprocess.run([BIN / "shellcheck", *scripts], capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    assert [path for path in scripts if path.suffix != ".sh" and not os.access(path, os.X_OK)] == []


def test_hooks_run_here_without_a_code_host() -> None:
    configured = read(ROOT / ".pre-commit-config.yaml")["repos"]
    assert [repository["repo"] for repository in configured] == ["local"]
    hooks = configured[0]["hooks"]
    assert {"ruff", "mypy", "shellcheck", "notebooks"} <= {hook["id"] for hook in hooks}
    for hook in hooks:
        program, *arguments = shlex.split(hook["entry"])
        assert hook["language"] == "system" and (BIN / Path(program).relative_to(".venv/bin")).exists(), hook["id"]
        assert [word for word in arguments if word.startswith("tests/") and not (ROOT / word).exists()] == []


def test_the_citation_and_the_changelog_name_this_version() -> None:
    citation = read(ROOT / "CITATION.cff")
    assert (citation["version"], citation["license"]) == (PROJECT["version"], PROJECT["license"])
    releases = re.findall(r"^## \[([^]]+)\](?: - (\d{4}-\d\d-\d\d))?$", (ROOT / "CHANGELOG.md").read_text(), re.MULTILINE)
    assert releases[0] == ("Unreleased", "")
    assert dict(releases)[PROJECT["version"]] == citation["date-released"]


def test_the_changelog_has_only_the_kinds_of_change_that_there_are() -> None:
    kinds = set(re.findall(r"^### (.+)$", (ROOT / "CHANGELOG.md").read_text(), re.MULTILINE))
    assert kinds <= {"Added", "Changed", "Deprecated", "Removed", "Fixed", "Security"}


def test_readme_can_be_read_in_three_minutes() -> None:
    text = (ROOT / "README.md").read_text()
    assert len(text.splitlines()) <= 120
    for heading in ("## Start", "## Without root", "## For teachers", "## What it does to your machine", "## Change something"):
        assert f"\n{heading}\n" in text
