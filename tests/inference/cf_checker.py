"""The CF conventions' checker, as one runs it on a file."""

import json
import os
import subprocess
import sys

import pytest


def complaints(path, folder):
    """What compliance-checker says of a file."""
    pytest.importorskip("compliance_checker")
    report = folder / "report.json"
    done = subprocess.run(
        [os.path.join(os.path.dirname(sys.executable), "compliance-checker"),
         "--test=cf:1.8", "--criteria=strict", "--format=json", f"--output={report}", path],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert report.exists(), done.stderr
    found = json.loads(report.read_text())["cf:1.8"]
    return {
        said["name"]: said["msgs"]
        for part in ("high_priorities", "medium_priorities", "low_priorities")
        for said in found[part]
        if said["value"][0] < said["value"][1]
    }
