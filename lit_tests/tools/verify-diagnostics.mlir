// Comments say which diagnostics a file has to produce; what is missing and what is too much are errors.

// RUN: volta-opt %s --verify-diagnostics --split-input-file
// RUN: not volta-opt %S/Inputs/wrong-expectations.mlir --verify-diagnostics --split-input-file 2>&1 | filecheck %S/Inputs/wrong-expectations.mlir

// expected-error @+1 {{custom op 'nonsense' is unknown}}
nonsense

// -----

// A comment may stand on the line itself, above or below it; comments can be stacked.
func.func @prior_use(%x: i32) -> f32 {
  // expected-note @above {{prior use here}}
  return %x : f32  // expected-error {{use of value '%x' expects different type than prior uses}}
}

// -----

func.func @f() -> i32 {
  return
  // expected-error @above {{'func.return' op has 0 operands}}
}
