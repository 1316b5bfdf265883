// RUN: volta-opt --list-ops | filecheck %s --check-prefix=OPS
// RUN: volta-opt --list-passes | filecheck %s --check-prefix=PASSES
// RUN: volta-opt --help | filecheck %s --check-prefix=HELP

// OPS: volta.add {{ *}}``x + y``
// OPS: volta.neg
// PASSES: cse {{ *}}Merge identical operations
// HELP: usage: volta-opt [options] [--PASS[=OPTIONS] …] [FILE]
// HELP: --verify-diagnostics
// HELP: passes:
// HELP: upstream passes
// HELP: --canonicalize
