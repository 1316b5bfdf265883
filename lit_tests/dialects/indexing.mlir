// RUN: volta-opt %s --split-input-file --verify-diagnostics --convert-volta-to-linalg --canonicalize | filecheck %s

// Only the axis along which the slice can move needs its start, which is clamped.
// CHECK-LABEL: func.func @dynamic_slice
// CHECK-SAME: %[[X:.*]]: tensor<7x5xf32>, %[[S:.*]]: tensor<2xi32>
// CHECK: %[[START:.*]] = tensor.extract %[[S]]
// CHECK-NOT: tensor.extract %[[S]]
// CHECK: arith.maxsi
// CHECK: %[[INSIDE:.*]] = arith.minsi
// CHECK: %[[I:.*]] = arith.index_cast %[[INSIDE]]
// CHECK: tensor.extract_slice %[[X]][%[[I]], 0] [3, 5] [1, 1]
func.func @dynamic_slice(%x: tensor<7x5xf32>, %starts: tensor<2xi32>) -> tensor<3x5xf32> {
  %0 = "volta.dynamic_slice"(%x, %starts) {sizes = array<i64: 3, 5>} : (tensor<7x5xf32>, tensor<2xi32>) -> tensor<3x5xf32>
  return %0 : tensor<3x5xf32>
}

// -----

// CHECK-LABEL: func.func @dynamic_update_slice
// CHECK-SAME: %[[X:.*]]: tensor<7x5xf32>, %[[U:.*]]: tensor<3x5xf32>, %[[S:.*]]: tensor<2xi64>
// CHECK: arith.minsi
// CHECK: tensor.insert_slice %[[U]] into %[[X]][%{{.*}}, 0] [3, 5] [1, 1]
func.func @dynamic_update_slice(%x: tensor<7x5xf32>, %update: tensor<3x5xf32>, %starts: tensor<2xi64>) -> tensor<7x5xf32> {
  %0 = "volta.dynamic_update_slice"(%x, %update, %starts) : (tensor<7x5xf32>, tensor<3x5xf32>, tensor<2xi64>) -> tensor<7x5xf32>
  return %0 : tensor<7x5xf32>
}

// -----

// CHECK-LABEL: func.func @gather
// CHECK-SAME: %[[X:.*]]: tensor<65x8xf32>, %[[AT:.*]]: tensor<2x3xi32>
// CHECK: linalg.generic {{.*}} ins(%[[AT]] : tensor<2x3xi32>) outs(%{{.*}} : tensor<2x3x8xf32>)
// CHECK: arith.maxsi
// CHECK: arith.minsi
// CHECK: tensor.extract %[[X]]
func.func @gather(%x: tensor<65x8xf32>, %indices: tensor<2x3xi32>) -> tensor<2x3x8xf32> {
  %0 = "volta.gather"(%x, %indices) {axis = 0 : i64, batch_axes = array<i64>} : (tensor<65x8xf32>, tensor<2x3xi32>) -> tensor<2x3x8xf32>
  return %0 : tensor<2x3x8xf32>
}

// -----

// CHECK-LABEL: func.func @gather_with_batch_axes
// CHECK: linalg.generic {{.*}} outs(%{{.*}} : tensor<4x2x3xf32>)
// CHECK: %[[B:.*]] = linalg.index 0
// CHECK: %[[R:.*]] = linalg.index 2
// CHECK: tensor.extract %{{.*}}[%{{.*}}, %[[B]], %[[R]]] : tensor<5x4x3xf32>
func.func @gather_with_batch_axes(%x: tensor<5x4x3xf32>, %indices: tensor<4x2xi32>) -> tensor<4x2x3xf32> {
  %0 = "volta.gather"(%x, %indices) {axis = 0 : i64, batch_axes = array<i64: 1>} : (tensor<5x4x3xf32>, tensor<4x2xi32>) -> tensor<4x2x3xf32>
  return %0 : tensor<4x2x3xf32>
}

// -----

// Indices are clamped, and the updates of those that were out of range become -0.0, which changes nothing.
// CHECK-LABEL: func.func @scatter_add
// CHECK-SAME: %[[X:.*]]: tensor<65x8xf32>
// CHECK-DAG: %[[NEUTRAL:.*]] = arith.constant -0.0
// CHECK: arith.select %{{.*}}, %{{.*}}, %[[NEUTRAL]]
// CHECK: "iree_linalg_ext.scatter"(%{{.*}}, %{{.*}}, %[[X]])
// CHECK: arith.addf
// CHECK: unique_indices = false
func.func @scatter_add(%x: tensor<65x8xf32>, %indices: tensor<6xi32>, %updates: tensor<6x8xf32>) -> tensor<65x8xf32> {
  %0 = "volta.scatter_add"(%x, %indices, %updates) {axis = 0 : i64, batch_axes = array<i64>} : (tensor<65x8xf32>, tensor<6xi32>, tensor<6x8xf32>) -> tensor<65x8xf32>
  return %0 : tensor<65x8xf32>
}

// -----

// One element for each batch element: no scatter, but a comparison that fuses.
// CHECK-LABEL: func.func @scatter_add_of_one_element_each
// CHECK-NOT: iree_linalg_ext
// CHECK: linalg.index 1
// CHECK: arith.cmpi eq
// CHECK: arith.addf
// CHECK: arith.select
func.func @scatter_add_of_one_element_each(%x: tensor<4x65xf32>, %indices: tensor<4x1xi32>, %updates: tensor<4x1xf32>) -> tensor<4x65xf32> {
  %0 = "volta.scatter_add"(%x, %indices, %updates) {axis = 1 : i64, batch_axes = array<i64: 0>} : (tensor<4x65xf32>, tensor<4x1xi32>, tensor<4x1xf32>) -> tensor<4x65xf32>
  return %0 : tensor<4x65xf32>
}

// -----

// Half precision is summed in float32.
// CHECK-LABEL: func.func @scatter_add_of_bfloat16
// CHECK: arith.extf
// CHECK: "iree_linalg_ext.scatter"{{.*}}
// CHECK: ^bb0(%{{.*}}: f32, %{{.*}}: f32)
// CHECK: arith.truncf
func.func @scatter_add_of_bfloat16(%x: tensor<9x8xbf16>, %indices: tensor<6xi32>, %updates: tensor<6x8xbf16>) -> tensor<9x8xbf16> {
  %0 = "volta.scatter_add"(%x, %indices, %updates) {axis = 0 : i64, batch_axes = array<i64>} : (tensor<9x8xbf16>, tensor<6xi32>, tensor<6x8xbf16>) -> tensor<9x8xbf16>
  return %0 : tensor<9x8xbf16>
}

// -----

// Dropped updates repeat the last valid one.
// CHECK-LABEL: func.func @scatter_set
// CHECK: iterator_types = ["reduction"]
// CHECK: "iree_linalg_ext.scatter"
// CHECK: ^bb0(%[[NEW:.*]]: i1, %{{.*}}: i1)
// CHECK: "iree_linalg_ext.yield"(%[[NEW]])
func.func @scatter_set(%x: tensor<9x8xi1>, %indices: tensor<6xi64>, %updates: tensor<6x8xi1>) -> tensor<9x8xi1> {
  %0 = "volta.scatter_set"(%x, %indices, %updates) {axis = 0 : i64, batch_axes = array<i64>} : (tensor<9x8xi1>, tensor<6xi64>, tensor<6x8xi1>) -> tensor<9x8xi1>
  return %0 : tensor<9x8xi1>
}

// -----

// CHECK-LABEL: func.func @scatter_mul
// CHECK: "iree_linalg_ext.scatter"
// CHECK: arith.mulf
func.func @scatter_mul(%x: tensor<9xf32>, %indices: tensor<6xi32>, %updates: tensor<6xf32>) -> tensor<9xf32> {
  %0 = "volta.scatter_mul"(%x, %indices, %updates) {axis = 0 : i64, batch_axes = array<i64>} : (tensor<9xf32>, tensor<6xi32>, tensor<6xf32>) -> tensor<9xf32>
  return %0 : tensor<9xf32>
}

// -----

// CHECK-LABEL: func.func @scatter_max_and_min
// CHECK: "iree_linalg_ext.scatter"
// CHECK: arith.maxui
// CHECK: "iree_linalg_ext.scatter"
// CHECK: arith.minui
func.func @scatter_max_and_min(%x: tensor<9xui8>, %indices: tensor<6xi32>, %updates: tensor<6xui8>) -> tensor<9xui8> {
  %0 = "volta.scatter_max"(%x, %indices, %updates) {axis = 0 : i64, batch_axes = array<i64>} : (tensor<9xui8>, tensor<6xi32>, tensor<6xui8>) -> tensor<9xui8>
  %1 = "volta.scatter_min"(%0, %indices, %updates) {axis = 0 : i64, batch_axes = array<i64>} : (tensor<9xui8>, tensor<6xi32>, tensor<6xui8>) -> tensor<9xui8>
  return %1 : tensor<9xui8>
}

// -----

func.func @unsigned_indices(%x: tensor<9xf32>, %indices: tensor<6xui32>) -> tensor<6xf32> {
  // expected-error @below {{indices are int32 or int64, got uint32[6]}}
  %0 = "volta.gather"(%x, %indices) {axis = 0 : i64, batch_axes = array<i64>} : (tensor<9xf32>, tensor<6xui32>) -> tensor<6xf32>
  return %0 : tensor<6xf32>
}

// -----

func.func @gather_from_nothing(%x: tensor<0xf32>, %indices: tensor<6xi32>) -> tensor<6xf32> {
  // expected-error @below {{axis 0 of float32[0] has no elements that int32[6] could name}}
  %0 = "volta.gather"(%x, %indices) {axis = 0 : i64, batch_axes = array<i64>} : (tensor<0xf32>, tensor<6xi32>) -> tensor<6xf32>
  return %0 : tensor<6xf32>
}

// -----

func.func @batch_extents_differ(%x: tensor<4x9xf32>, %indices: tensor<3x6xi32>) -> tensor<3x6xf32> {
  // expected-error @below {{the leading axes of indices int32[3,6] must have the extents of axes (0,) of float32[4,9]}}
  %0 = "volta.gather"(%x, %indices) {axis = 1 : i64, batch_axes = array<i64: 0>} : (tensor<4x9xf32>, tensor<3x6xi32>) -> tensor<3x6xf32>
  return %0 : tensor<3x6xf32>
}

// -----

func.func @axis_is_a_batch_axis(%x: tensor<4x9xf32>, %indices: tensor<4x6xi32>) -> tensor<4x6xf32> {
  // expected-error @below {{batch axes must ascend within the rank of float32[4,9] and differ from axis 0, got (0,)}}
  %0 = "volta.gather"(%x, %indices) {axis = 0 : i64, batch_axes = array<i64: 0>} : (tensor<4x9xf32>, tensor<4x6xi32>) -> tensor<4x6xf32>
  return %0 : tensor<4x6xf32>
}

// -----

func.func @updates_do_not_fit(%x: tensor<9x2xf32>, %indices: tensor<6xi32>, %updates: tensor<6xf32>) -> tensor<9x2xf32> {
  // expected-error @below {{the updates of float32[9,2] at int32[6] have shape (6, 2), got float32[6]}}
  %0 = "volta.scatter_add"(%x, %indices, %updates) {axis = 0 : i64, batch_axes = array<i64>} : (tensor<9x2xf32>, tensor<6xi32>, tensor<6xf32>) -> tensor<9x2xf32>
  return %0 : tensor<9x2xf32>
}

// -----

func.func @scatter_add_of_bool(%x: tensor<9xi1>, %indices: tensor<6xi32>, %updates: tensor<6xi1>) -> tensor<9xi1> {
  // expected-error @below {{takes numbers, got bool[9]}}
  %0 = "volta.scatter_add"(%x, %indices, %updates) {axis = 0 : i64, batch_axes = array<i64>} : (tensor<9xi1>, tensor<6xi32>, tensor<6xi1>) -> tensor<9xi1>
  return %0 : tensor<9xi1>
}

// -----

func.func @starts_do_not_fit(%x: tensor<9x2xf32>, %starts: tensor<1xi32>) -> tensor<3x2xf32> {
  // expected-error @below {{the starts of a slice of float32[9,2] have shape (1,)}}
  %0 = "volta.dynamic_slice"(%x, %starts) {sizes = array<i64: 3, 2>} : (tensor<9x2xf32>, tensor<1xi32>) -> tensor<3x2xf32>
  return %0 : tensor<3x2xf32>
}

// -----

func.func @slice_is_too_large(%x: tensor<9x2xf32>, %starts: tensor<2xi32>) -> tensor<3x3xf32> {
  // expected-error @below {{float32[9,2] has no slice of shape (3, 3)}}
  %0 = "volta.dynamic_slice"(%x, %starts) {sizes = array<i64: 3, 3>} : (tensor<9x2xf32>, tensor<2xi32>) -> tensor<3x3xf32>
  return %0 : tensor<3x3xf32>
}
