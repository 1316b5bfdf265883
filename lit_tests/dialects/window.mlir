// Windows are unrolled: each element of the window is a slice of the operand, all of them fold in one loop nest.

// RUN: volta-opt %s --split-input-file --verify-diagnostics --convert-volta-to-linalg | filecheck %s

// CHECK-LABEL: func.func @max
// CHECK: arith.constant 0xFF800000 : f32
// CHECK: tensor.extract_slice %{{.*}}[0, 0, 0] [2, 3, 4] [1, 2, 1] : tensor<2x7x4xf32> to tensor<2x3x4xf32>
// CHECK: tensor.extract_slice %{{.*}}[0, 1, 0] [2, 3, 4] [1, 2, 1] : tensor<2x7x4xf32> to tensor<2x3x4xf32>
// CHECK: tensor.extract_slice %{{.*}}[0, 2, 0] [2, 3, 4] [1, 2, 1] : tensor<2x7x4xf32> to tensor<2x3x4xf32>
// CHECK: linalg.generic {{{.*}}iterator_types = ["parallel", "parallel", "parallel", "parallel"]}
// CHECK-COUNT-3: arith.maximumf
func.func @max(%x: tensor<2x7x4xf32>) -> tensor<2x3x4xf32> {
  %0 = "volta.window_max"(%x) {window = array<i64: 1, 3, 1>, strides = array<i64: 1, 2, 1>, low = array<i64: 0, 0, 0>, high = array<i64: 0, 0, 0>, dilation = array<i64: 1, 1, 1>} : (tensor<2x7x4xf32>) -> tensor<2x3x4xf32>
  return %0 : tensor<2x3x4xf32>
}

// -----

// The first maximum, or the last NaN.
// CHECK-LABEL: func.func @argmax
// CHECK: arith.cmpf ogt
// CHECK: arith.cmpf uno
// CHECK: arith.ori
// CHECK: arith.select {{.*}} : i32
func.func @argmax(%x: tensor<2x7x4xf32>) -> tensor<2x3x4xi32> {
  %0 = "volta.window_argmax"(%x) {window = array<i64: 1, 3, 1>, strides = array<i64: 1, 2, 1>, low = array<i64: 0, 0, 0>, high = array<i64: 0, 0, 0>, dilation = array<i64: 1, 1, 1>} : (tensor<2x7x4xf32>) -> tensor<2x3x4xi32>
  return %0 : tensor<2x3x4xi32>
}

// -----

// Half precision is added up in float32. Where the windows slide along the last axis, another one is brought there.
// CHECK-LABEL: func.func @sum
// CHECK: linalg.generic {{.*}} ins(%{{.*}} : tensor<4x7xbf16>) outs(%{{.*}} : tensor<7x4xbf16>)
// CHECK: arith.extf
// CHECK: arith.addf {{.*}} : f32
// CHECK: arith.truncf
func.func @sum(%x: tensor<4x7xbf16>) -> tensor<4x5xbf16> {
  %0 = "volta.window_sum"(%x) {window = array<i64: 1, 3>, strides = array<i64: 1, 1>, low = array<i64: 0, 0>, high = array<i64: 0, 0>, dilation = array<i64: 1, 1>} : (tensor<4x7xbf16>) -> tensor<4x5xbf16>
  return %0 : tensor<4x5xbf16>
}

// -----

// Larger windows are loops.
// CHECK: affine_map<(d0, d1, d2, d3, d4) -> (d0, d1 + d4, d3)>
// CHECK-LABEL: func.func @large_window
// CHECK: linalg.generic {{{.*}}iterator_types = ["parallel", "parallel", "parallel", "parallel", "reduction"]}
func.func @large_window(%x: tensor<2x100x4xf32>) -> tensor<2x31x4xf32> {
  %0 = "volta.window_sum"(%x) {window = array<i64: 1, 70, 1>, strides = array<i64: 1, 1, 1>, low = array<i64: 0, 0, 0>, high = array<i64: 0, 0, 0>, dilation = array<i64: 1, 1, 1>} : (tensor<2x100x4xf32>) -> tensor<2x31x4xf32>
  return %0 : tensor<2x31x4xf32>
}

// -----

// No index leaves the operand: places are clamped, what is outside is zero.
// CHECK-LABEL: func.func @gather
// CHECK: arith.cmpi ult
// CHECK: arith.minsi
// CHECK: arith.maxsi
// CHECK: tensor.extract
// CHECK: arith.select
func.func @gather(%x: tensor<7xf32>, %i: tensor<3xi32>) -> tensor<3xf32> {
  %0 = "volta.window_gather"(%x, %i) {window = array<i64: 3>, strides = array<i64: 2>, low = array<i64: 0>, high = array<i64: 0>, dilation = array<i64: 1>} : (tensor<7xf32>, tensor<3xi32>) -> tensor<3xf32>
  return %0 : tensor<3xf32>
}

// -----

// Nothing is scattered: the elements of each phase are selected from the windows that reach them.
// CHECK-LABEL: func.func @scatter
// CHECK: linalg.generic {{{.*}}iterator_types = ["parallel", "parallel", "parallel", "parallel"]} {{.*}} outs(%{{.*}} : tensor<1x4x2x1xf32>)
// CHECK: arith.cmpi eq
// CHECK: arith.select
func.func @scatter(%y: tensor<3xf32>, %i: tensor<3xi32>) -> tensor<7xf32> {
  %0 = "volta.window_scatter"(%y, %i) {window = array<i64: 3>, strides = array<i64: 2>, low = array<i64: 0>, high = array<i64: 0>, dilation = array<i64: 1>, shape = array<i64: 7>} : (tensor<3xf32>, tensor<3xi32>) -> tensor<7xf32>
  return %0 : tensor<7xf32>
}

// -----

// CHECK-LABEL: func.func @spread
// CHECK: linalg.generic {{.*}} outs(%{{.*}} : tensor<1x4x2x1xf32>)
// CHECK-NOT: arith.select
// CHECK: tensor.collapse_shape
func.func @spread(%y: tensor<4xf32>) -> tensor<8xf32> {
  %0 = "volta.window_spread"(%y) {window = array<i64: 2>, strides = array<i64: 2>, low = array<i64: 0>, high = array<i64: 0>, dilation = array<i64: 1>, shape = array<i64: 8>} : (tensor<4xf32>) -> tensor<8xf32>
  return %0 : tensor<8xf32>
}

// -----

func.func @does_not_fit(%x: tensor<3xf32>) -> tensor<1xf32> {
  // expected-error @below {{'volta.window_sum' a window over 5 elements does not fit into 3}}
  %0 = "volta.window_sum"(%x) {window = array<i64: 3>, strides = array<i64: 1>, low = array<i64: 0>, high = array<i64: 0>, dilation = array<i64: 2>} : (tensor<3xf32>) -> tensor<1xf32>
  return %0 : tensor<1xf32>
}
