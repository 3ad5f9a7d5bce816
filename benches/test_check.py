#!/usr/bin/env python3
"""What benches/check says, on one scenario counted for real: `benches/test_check.py`, half a minute and a build."""

import json
import os
import subprocess
import sys
import tempfile
import unittest
from pathlib import Path

HERE = Path(__file__).resolve().parent
SCENARIO = "record-120"


def check(*arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, HERE / "check", *arguments]
    return subprocess.run(command, env=os.environ | environment, capture_output=True, text=True, timeout=1_800)


class Check(unittest.TestCase):
    def setUp(self):
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.file = Path(folder.name, "counts.json")
        self.content = json.loads((HERE / "counts.json").read_text())

    def against(self, factor: float = 1.0) -> subprocess.CompletedProcess[str]:
        self.content["counts"][SCENARIO] = round(self.content["counts"][SCENARIO] * factor)
        self.file.write_text(json.dumps(self.content))
        return check("--counts", str(self.file), SCENARIO)

    def test_the_counts_in_the_file_are_those_of_this_code(self):
        done = self.against()
        self.assertEqual(done.returncode, 0, done.stdout + done.stderr)

    def test_three_per_cent_more_than_the_file_is_worse_and_named(self):
        done = self.against(0.97)
        self.assertEqual(done.returncode, 1, done.stdout + done.stderr)
        self.assertIn(f"worse: {SCENARIO} by ", done.stdout)

    def test_less_than_the_file_is_no_fault(self):
        self.assertEqual(self.against(1.10).returncode, 0)

    def test_a_scenario_that_the_file_does_not_know_is_named(self):
        del self.content["counts"]["record-120"]
        self.file.write_text(json.dumps(self.content))
        done = check("--counts", str(self.file), SCENARIO)
        self.assertEqual(done.returncode, 1)
        self.assertIn(f"in only one of counts.json and the bench: {SCENARIO}", done.stdout)

    def test_counts_of_another_toolchain_are_not_compared(self):
        self.content["made_with"]["rustc"] = "rustc 1.0.0"
        done = self.against()
        self.assertEqual(done.returncode, 2)
        self.assertIn("rustc 1.0.0", done.stderr)

    def test_without_valgrind_nothing_is_compared(self):
        done = check(PATH="/nowhere")
        self.assertEqual(done.returncode, 2)
        self.assertIn("valgrind is not installed", done.stderr)

    def test_an_unknown_scenario_is_a_mistake(self):
        self.assertEqual(check("record-of-vinyl").returncode, 2)


if __name__ == "__main__":
    unittest.main()
