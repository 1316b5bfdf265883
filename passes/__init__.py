"""The passes, one file each, and the manager that runs them. See :mod:`volta_mlir.passes.manager`."""

import importlib
import pkgutil

from volta_mlir.passes.manager import PASSES, Pass, PassError, PipelineError, UpstreamPass, parse_pipeline, run_pipeline

# Importing a file defines its pass: a new file in this directory is all it takes to add one.
for _module in pkgutil.iter_modules(__path__):
    importlib.import_module(f"{__name__}.{_module.name}")

__all__ = ["PASSES", "Pass", "PassError", "PipelineError", "UpstreamPass", "parse_pipeline", "run_pipeline"]
