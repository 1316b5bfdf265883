// What the dialect's verifiers report has the place in the file and no more than that.

// RUN: volta-opt %s --verify-diagnostics --split-input-file
// RUN: not volta-opt %s 2>&1 | filecheck %s

// CHECK-NOT: Traceback
// CHECK: op-errors.mlir:[[# @LINE + 5]]:8: error: 'volta.neg'
// CHECK-NOT: Traceback

func.func @wrong_result(%x: tensor<4xf32>) -> tensor<5xf32> {
  // expected-error @below {{'volta.neg'}}
  %0 = "volta.neg"(%x) : (tensor<4xf32>) -> tensor<5xf32>
  return %0 : tensor<5xf32>
}

// -----

func.func @unknown_op(%x: tensor<4xf32>) -> tensor<4xf32> {
  // expected-error @below {{volta.nge}}
  %0 = "volta.nge"(%x) : (tensor<4xf32>) -> tensor<4xf32>
  return %0 : tensor<4xf32>
}
