// Sorting merges runs, one linalg.generic per level: eleven elements take four.

// RUN: volta-opt %s --split-input-file --verify-diagnostics --convert-volta-to-linalg | filecheck %s

// The keys are compared as integers.
// CHECK-LABEL: func.func @sort
// CHECK: arith.bitcast {{.*}} : f32 to i32
// CHECK: -> (tensor<3x6x2xi32>, tensor<3x6x2xi32>)
// CHECK: -> (tensor<3x3x4xi32>, tensor<3x3x4xi32>)
// CHECK: -> (tensor<3x2x8xi32>, tensor<3x2x8xi32>)
// CHECK: scf.while
// CHECK: arith.cmpi sle
// The last level needs the indices only, and these pick the elements.
// CHECK: -> tensor<3x1x11xi32>
// CHECK: tensor.extract {{.*}} : tensor<3x11xf32>
func.func @sort(%x: tensor<3x11xf32>) -> tensor<3x11xf32> {
  %0 = "volta.sort"(%x) {axis = 1 : i64, descending = false} : (tensor<3x11xf32>) -> tensor<3x11xf32>
  return %0 : tensor<3x11xf32>
}

// -----

// CHECK-LABEL: func.func @argsort_of_the_first_axis
// CHECK: ins(%{{.*}} : tensor<2x3xi8>) outs(%{{.*}} : tensor<3x2xi8>)
// CHECK-NOT: scf.for
// CHECK: -> tensor<3x1x2xi32>
// CHECK: return %{{.*}} : tensor<2x3xi32>
func.func @argsort_of_the_first_axis(%x: tensor<2x3xui8>) -> tensor<2x3xi32> {
  %0 = "volta.argsort"(%x) {axis = 0 : i64, descending = true} : (tensor<2x3xui8>) -> tensor<2x3xi32>
  return %0 : tensor<2x3xi32>
}

// -----

// Runs are cut to what is wanted of them.
// CHECK-LABEL: func.func @top_k
// CHECK: -> (tensor<1x500x2xi32>, tensor<1x500x2xi16>)
// CHECK: -> (tensor<1x250x3xi32>, tensor<1x250x3xi16>)
// CHECK: -> (tensor<1x125x3xi32>, tensor<1x125x3xi16>)
// CHECK: -> tensor<1x1x3xi32>
func.func @top_k(%x: tensor<1000xbf16>) -> (tensor<3xbf16>, tensor<3xi32>) {
  %0:2 = "volta.top_k"(%x) {k = 3 : i64} : (tensor<1000xbf16>) -> (tensor<3xbf16>, tensor<3xi32>)
  return %0#0, %0#1 : tensor<3xbf16>, tensor<3xi32>
}

// -----

func.func @k_is_too_large(%x: tensor<3x4xf32>) -> (tensor<3x5xf32>, tensor<3x5xi32>) {
  // expected-error @below {{k = 5 is not within the last axis of float32[3,4]}}
  %0:2 = "volta.top_k"(%x) {k = 5 : i64} : (tensor<3x4xf32>) -> (tensor<3x5xf32>, tensor<3x5xi32>)
  return %0#0, %0#1 : tensor<3x5xf32>, tensor<3x5xi32>
}

// -----

func.func @no_such_axis(%x: tensor<3x4xf32>) -> tensor<3x4xf32> {
  // expected-error @below {{axis 2 is out of range for float32[3,4]}}
  %0 = "volta.sort"(%x) {axis = 2 : i64, descending = false} : (tensor<3x4xf32>) -> tensor<3x4xf32>
  return %0 : tensor<3x4xf32>
}
