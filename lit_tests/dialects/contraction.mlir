// Contractions become one linalg.generic with at most one loop of each kind: batch, rows, columns, summed.

// RUN: volta-opt %s --split-input-file --verify-diagnostics --convert-volta-to-linalg | filecheck %s

// Operands are used as they lie: the weights of a layer, [out, in], are not transposed.
// CHECK: #[[ROWS:.*]] = affine_map<(d0, d1, d2) -> (d0, d2)>
// CHECK: #[[COLUMNS:.*]] = affine_map<(d0, d1, d2) -> (d1, d2)>
// CHECK-LABEL: func.func @linear
// CHECK: tensor.collapse_shape %{{.*}} {{\[\[}}0, 1], [2]] : tensor<2x3x8xf32> into tensor<6x8xf32>
// CHECK: linalg.generic {indexing_maps = [#[[ROWS]], #[[COLUMNS]], #{{.*}}], iterator_types = ["parallel", "parallel", "reduction"]} ins(%{{.*}}, %{{.*}} : tensor<6x8xf32>, tensor<5x8xf32>)
// CHECK: arith.mulf
// CHECK: arith.addf
// CHECK: tensor.expand_shape %{{.*}} : tensor<6x5xf32> into tensor<2x3x5xf32>
func.func @linear(%x: tensor<2x3x8xf32>, %w: tensor<5x8xf32>) -> tensor<2x3x5xf32> {
  %0 = "volta.dot_general"(%x, %w) {lhs_batch = array<i64>, rhs_batch = array<i64>, lhs_contract = array<i64: 2>, rhs_contract = array<i64: 1>, dtype = f32} : (tensor<2x3x8xf32>, tensor<5x8xf32>) -> tensor<2x3x5xf32>
  return %0 : tensor<2x3x5xf32>
}

// -----

// CHECK-LABEL: func.func @two_batch_axes_are_one_loop
// CHECK: linalg.generic {{{.*}}iterator_types = ["parallel", "parallel", "parallel", "reduction"]} ins(%{{.*}}, %{{.*}} : tensor<6x4x8xf32>, tensor<6x5x8xf32>)
func.func @two_batch_axes_are_one_loop(%x: tensor<2x3x4x8xf32>, %y: tensor<2x3x5x8xf32>) -> tensor<2x3x4x5xf32> {
  %0 = "volta.dot_general"(%x, %y) {lhs_batch = array<i64: 0, 1>, rhs_batch = array<i64: 0, 1>, lhs_contract = array<i64: 3>, rhs_contract = array<i64: 3>, dtype = f32} : (tensor<2x3x4x8xf32>, tensor<2x3x5x8xf32>) -> tensor<2x3x4x5xf32>
  return %0 : tensor<2x3x4x5xf32>
}

// -----

// Half precision is widened inside the loop, where the hardware's own instructions are found.
// CHECK-LABEL: func.func @half_precision
// CHECK: linalg.generic {{.*}} ins(%{{.*}}, %{{.*}} : tensor<3x8xbf16>, tensor<8x5xbf16>) outs(%{{.*}} : tensor<3x5xf32>)
// CHECK: arith.extf {{.*}} : bf16 to f32
// CHECK: arith.truncf {{.*}} : f32 to bf16
func.func @half_precision(%x: tensor<3x8xbf16>, %y: tensor<8x5xbf16>) -> tensor<3x5xbf16> {
  %0 = "volta.dot_general"(%x, %y) {lhs_batch = array<i64>, rhs_batch = array<i64>, lhs_contract = array<i64: 1>, rhs_contract = array<i64: 0>, dtype = bf16} : (tensor<3x8xbf16>, tensor<8x5xbf16>) -> tensor<3x5xbf16>
  return %0 : tensor<3x5xbf16>
}

// -----

// CHECK-LABEL: func.func @unsigned_integers
// CHECK: arith.extui {{.*}} : i8 to i32
// CHECK: arith.muli
// CHECK: arith.addi
func.func @unsigned_integers(%x: tensor<3x8xui8>, %y: tensor<8x5xui8>) -> tensor<3x5xi32> {
  %0 = "volta.dot_general"(%x, %y) {lhs_batch = array<i64>, rhs_batch = array<i64>, lhs_contract = array<i64: 1>, rhs_contract = array<i64: 0>, dtype = i32} : (tensor<3x8xui8>, tensor<8x5xui8>) -> tensor<3x5xi32>
  return %0 : tensor<3x5xi32>
}

// -----

// A product with a vector is written so that IREE does not take it for a contraction, and pack the matrix.
// CHECK-LABEL: func.func @matrix_and_vector
// CHECK: arith.negf
// CHECK: arith.mulf
// CHECK: arith.subf
func.func @matrix_and_vector(%x: tensor<3x8xf32>, %y: tensor<1x8xf32>) -> tensor<3x1xf32> {
  %0 = "volta.dot_general"(%x, %y) {lhs_batch = array<i64>, rhs_batch = array<i64>, lhs_contract = array<i64: 1>, rhs_contract = array<i64: 1>, dtype = f32} : (tensor<3x8xf32>, tensor<1x8xf32>) -> tensor<3x1xf32>
  return %0 : tensor<3x1xf32>
}

// -----

func.func @extents_differ(%x: tensor<3x8xf32>, %y: tensor<7x5xf32>) -> tensor<3x5xf32> {
  // expected-error @below {{'volta.dot_general' contracting axes 1 of float32[3,8] and 0 of float32[7,5] differ in extent}}
  %0 = "volta.dot_general"(%x, %y) {lhs_batch = array<i64>, rhs_batch = array<i64>, lhs_contract = array<i64: 1>, rhs_contract = array<i64: 0>, dtype = f32} : (tensor<3x8xf32>, tensor<7x5xf32>) -> tensor<3x5xf32>
  return %0 : tensor<3x5xf32>
}

// -----

func.func @integers_to_float(%x: tensor<8xi32>, %y: tensor<8xi32>) -> tensor<f32> {
  // expected-error @below {{'volta.dot_general' products of int32 can't be added up in float32}}
  %0 = "volta.dot_general"(%x, %y) {lhs_batch = array<i64>, rhs_batch = array<i64>, lhs_contract = array<i64: 0>, rhs_contract = array<i64: 0>, dtype = f32} : (tensor<8xi32>, tensor<8xi32>) -> tensor<f32>
  return %0 : tensor<f32>
}
