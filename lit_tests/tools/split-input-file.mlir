// Every part is a module of its own, and its diagnostics have the line numbers of the whole file.

// RUN: volta-opt %s --split-input-file --verify-diagnostics | filecheck %s
// RUN: not volta-opt %s --split-input-file 2>&1 | filecheck %s --check-prefix=ERRORS

// CHECK: func.func @same_name
// CHECK: // -----
// CHECK: func.func @same_name

// ERRORS-NOT: func.func
// ERRORS: split-input-file.mlir:[[# @LINE + 11]]:3: error: {{.*}}
// ERRORS-NOT: error:

func.func @same_name() {
  return
}

// -----

func.func @broken() -> i32 {
  // expected-error @below {{'func.return' op has 0 operands, but enclosing function (@broken) returns 1}}
  return
}

// -----

func.func @same_name() {
  return
}
