// RUN: volta-opt %s --split-input-file --verify-diagnostics --convert-volta-to-linalg --canonicalize | filecheck %s

// CHECK-LABEL: func.func @broadcast_in_dim
// CHECK: tensor.collapse_shape %{{.*}} {{\[}}[0, 1]] : tensor<1x3xf32> into tensor<3xf32>
// CHECK: linalg.generic {{.*}} outs(%{{.*}} : tensor<2x4x3xf32>)
func.func @broadcast_in_dim(%x: tensor<1x3xf32>) -> tensor<2x4x3xf32> {
  %0 = "volta.broadcast_in_dim"(%x) {shape = array<i64: 2, 4, 3>, dims = array<i64: 0, 2>} : (tensor<1x3xf32>) -> tensor<2x4x3xf32>
  return %0 : tensor<2x4x3xf32>
}

// -----

// CHECK-LABEL: func.func @reshape
// CHECK: tensor.collapse_shape {{.*}} into tensor<24xf32>
// CHECK: tensor.expand_shape {{.*}} into tensor<3x8xf32>
func.func @reshape(%x: tensor<4x6xf32>) -> tensor<3x8xf32> {
  %0 = "volta.reshape"(%x) {shape = array<i64: 3, 8>} : (tensor<4x6xf32>) -> tensor<3x8xf32>
  return %0 : tensor<3x8xf32>
}

// -----

// CHECK-LABEL: func.func @transpose
// CHECK: linalg.generic {{.*}} outs(%{{.*}} : tensor<5x2x3xf32>)
func.func @transpose(%x: tensor<2x3x5xf32>) -> tensor<5x2x3xf32> {
  %0 = "volta.transpose"(%x) {permutation = array<i64: 2, 0, 1>} : (tensor<2x3x5xf32>) -> tensor<5x2x3xf32>
  return %0 : tensor<5x2x3xf32>
}

// -----

// CHECK-LABEL: func.func @reverse
// CHECK-SAME: %[[X:.*]]: tensor<3x5xi8>
// CHECK: %[[LAST:.*]] = arith.constant 4 : index
// CHECK: %[[I:.*]] = linalg.index 0
// CHECK: %[[J:.*]] = linalg.index 1
// CHECK: %[[K:.*]] = arith.subi %[[LAST]], %[[J]]
// CHECK: tensor.extract %[[X]][%[[I]], %[[K]]]
func.func @reverse(%x: tensor<3x5xui8>) -> tensor<3x5xui8> {
  %0 = "volta.reverse"(%x) {axes = array<i64: 1>} : (tensor<3x5xui8>) -> tensor<3x5xui8>
  return %0 : tensor<3x5xui8>
}

// -----

// CHECK-LABEL: func.func @slice
// CHECK-SAME: %[[X:.*]]: tensor<9x10xf32>
// CHECK: tensor.extract_slice %[[X]][1, 2] [3, 5] [3, 1] : tensor<9x10xf32> to tensor<3x5xf32>
func.func @slice(%x: tensor<9x10xf32>) -> tensor<3x5xf32> {
  %0 = "volta.slice"(%x) {start = array<i64: 1, 2>, limit = array<i64: 8, 7>, strides = array<i64: 3, 1>} : (tensor<9x10xf32>) -> tensor<3x5xf32>
  return %0 : tensor<3x5xf32>
}

// -----

// A stride of the last axis is no view.
// CHECK-LABEL: func.func @inner_stride
// CHECK-NOT: tensor.extract_slice
// CHECK: linalg.generic
// CHECK: tensor.extract %{{.*}} : tensor<9x10xf32>
func.func @inner_stride(%x: tensor<9x10xf32>) -> tensor<9x5xf32> {
  %0 = "volta.slice"(%x) {start = array<i64: 0, 1>, limit = array<i64: 9, 10>, strides = array<i64: 1, 2>} : (tensor<9x10xf32>) -> tensor<9x5xf32>
  return %0 : tensor<9x5xf32>
}

// -----

// Axis 0 loses its first element, axis 1 is dilated between two on either side.
// CHECK-LABEL: func.func @pad
// CHECK-SAME: %[[X:.*]]: tensor<3x4xf32>, %[[V:.*]]: tensor<f32>
// CHECK: %[[AROUND:.*]] = linalg.generic {{.*}} outs(%{{.*}} : tensor<4x11xf32>)
// CHECK: %[[KEPT:.*]] = tensor.extract_slice %[[X]][1, 0] [2, 4] [1, 1]
// CHECK: tensor.insert_slice %[[KEPT]] into %[[AROUND]][0, 2] [2, 4] [1, 2]
func.func @pad(%x: tensor<3x4xf32>, %value: tensor<f32>) -> tensor<4x11xf32> {
  %0 = "volta.pad"(%x, %value) {low = array<i64: -1, 2>, high = array<i64: 2, 2>, interior = array<i64: 0, 1>} : (tensor<3x4xf32>, tensor<f32>) -> tensor<4x11xf32>
  return %0 : tensor<4x11xf32>
}

// -----

// A tree of concatenations along one axis copies each part once, to its final place.
// CHECK-LABEL: func.func @concatenate
// CHECK: tensor.concat dim(1) %[[A:.*]], %[[B:.*]], %[[C:.*]] : (tensor<3x2xf32>, tensor<3x1xf32>, tensor<3x4xf32>) -> tensor<3x7xf32>
// CHECK-NOT: tensor.concat
func.func @concatenate(%a: tensor<3x2xf32>, %b: tensor<3x1xf32>, %c: tensor<3x4xf32>, %empty: tensor<3x0xf32>) -> tensor<3x7xf32> {
  %0 = "volta.concatenate"(%b, %c) {axis = 1 : i64} : (tensor<3x1xf32>, tensor<3x4xf32>) -> tensor<3x5xf32>
  %1 = "volta.concatenate"(%a, %empty) {axis = 1 : i64} : (tensor<3x2xf32>, tensor<3x0xf32>) -> tensor<3x2xf32>
  %2 = "volta.concatenate"(%1, %0) {axis = 1 : i64} : (tensor<3x2xf32>, tensor<3x5xf32>) -> tensor<3x7xf32>
  return %2 : tensor<3x7xf32>
}

// -----

func.func @slice_beyond_the_end(%x: tensor<4xf32>) -> tensor<3xf32> {
  // expected-error @below {{axis 0 of float32[4] has no slice from 2 to 5 with stride 1}}
  %0 = "volta.slice"(%x) {start = array<i64: 2>, limit = array<i64: 5>, strides = array<i64: 1>} : (tensor<4xf32>) -> tensor<3xf32>
  return %0 : tensor<3xf32>
}

// -----

func.func @pad_removes_too_much(%x: tensor<4xf32>, %value: tensor<f32>) -> tensor<0xf32> {
  // expected-error @below {{padding of (-3,) and (-2,) removes more than float32[4] has}}
  %0 = "volta.pad"(%x, %value) {low = array<i64: -3>, high = array<i64: -2>, interior = array<i64: 0>} : (tensor<4xf32>, tensor<f32>) -> tensor<0xf32>
  return %0 : tensor<0xf32>
}

// -----

func.func @pad_with_another_dtype(%x: tensor<4xf32>, %value: tensor<i32>) -> tensor<5xf32> {
  // expected-error @below {{the value to pad float32[4] with is int32[]}}
  %0 = "volta.pad"(%x, %value) {low = array<i64: 1>, high = array<i64: 0>, interior = array<i64: 0>} : (tensor<4xf32>, tensor<i32>) -> tensor<5xf32>
  return %0 : tensor<5xf32>
}

// -----

func.func @concatenate_does_not_fit(%x: tensor<2x3xf32>, %y: tensor<2x4xf32>) -> tensor<4x3xf32> {
  // expected-error @below {{float32[2,3] and float32[2,4] differ along axes other than axis 0}}
  %0 = "volta.concatenate"(%x, %y) {axis = 0 : i64} : (tensor<2x3xf32>, tensor<2x4xf32>) -> tensor<4x3xf32>
  return %0 : tensor<4x3xf32>
}

// -----

func.func @axes_out_of_order(%x: tensor<2x3xf32>) -> tensor<2x3xf32> {
  // expected-error @below {{axes must ascend within the rank of float32[2,3], got (1, 0)}}
  %0 = "volta.reverse"(%x) {axes = array<i64: 1, 0>} : (tensor<2x3xf32>) -> tensor<2x3xf32>
  return %0 : tensor<2x3xf32>
}
