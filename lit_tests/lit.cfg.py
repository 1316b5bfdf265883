"""Configuration of lit: every .mlir file is a test, whose RUN lines find the tools of the running environment."""

import os
import sys
from pathlib import Path

import lit.formats

here = Path(__file__).parent
tools = Path(sys.executable).parent  # volta-opt, filecheck, python, iree-compile

config.name = "volta"
config.test_format = lit.formats.ShTest(execute_external=False)
config.suffixes = [".mlir"]
config.excludes = ["Inputs"]
config.test_source_root = str(here)
config.test_exec_root = str(here.parent / "build" / "lit")
config.environment["PATH"] = os.pathsep.join([str(tools), os.environ["PATH"]])
