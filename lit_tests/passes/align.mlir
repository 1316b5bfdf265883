// RUN: volta-opt %s --volta-align --split-input-file | filecheck %s

// Slices of a biased product, of which heads are made: reshape, slice and transposition go up to product and bias.

// CHECK-LABEL: func.func @heads
// CHECK-SAME: (%[[X:.*]]: tensor<4x12xf32>, %[[B:.*]]: tensor<12xf32>)
// CHECK: "volta.reshape"(%[[X]]) {shape = array<i64: 4, 6, 2>}
// CHECK-NEXT: %[[PART:.*]] = "volta.slice"({{.*}}) {limit = array<i64: 4, 6, 2>, start = array<i64: 0, 3, 0>
// CHECK: "volta.reshape"(%[[B]]) {shape = array<i64: 6, 2>}
// CHECK: "volta.transpose"(%[[PART]]) {permutation = array<i64: 1, 0, 2>}
// CHECK: %[[SUM:.*]] = "volta.add"({{.*}}) : (tensor<3x4x2xf32>, tensor<3x4x2xf32>)
// CHECK-NEXT: return %[[SUM]]
func.func @heads(%x: tensor<4x12xf32>, %b: tensor<12xf32>) -> tensor<3x4x2xf32> {
  %0 = "volta.broadcast_in_dim"(%b) {shape = array<i64: 4, 12>, dims = array<i64: 1>} : (tensor<12xf32>) -> tensor<4x12xf32>
  %1 = "volta.add"(%x, %0) : (tensor<4x12xf32>, tensor<4x12xf32>) -> tensor<4x12xf32>
  %2 = "volta.slice"(%1) {start = array<i64: 0, 6>, limit = array<i64: 4, 12>, strides = array<i64: 1, 1>} : (tensor<4x12xf32>) -> tensor<4x6xf32>
  %3 = "volta.reshape"(%2) {shape = array<i64: 4, 3, 2>} : (tensor<4x6xf32>) -> tensor<4x3x2xf32>
  %4 = "volta.transpose"(%3) {permutation = array<i64: 1, 0, 2>} : (tensor<4x3x2xf32>) -> tensor<3x4x2xf32>
  return %4 : tensor<3x4x2xf32>
}

// -----

// What is used whole, too, is not computed again for a slice; a slice through the middle of a head stays below.

// CHECK-LABEL: func.func @used_whole
// CHECK: %[[SUM:.*]] = "volta.add"
// CHECK: "volta.slice"(%[[SUM]])
func.func @used_whole(%x: tensor<4xf32>) -> (tensor<4xf32>, tensor<2xf32>) {
  %0 = "volta.add"(%x, %x) : (tensor<4xf32>, tensor<4xf32>) -> tensor<4xf32>
  %1 = "volta.slice"(%0) {start = array<i64: 0>, limit = array<i64: 2>, strides = array<i64: 1>} : (tensor<4xf32>) -> tensor<2xf32>
  return %0, %1 : tensor<4xf32>, tensor<2xf32>
}

// CHECK-LABEL: func.func @no_whole_part
// CHECK: %[[PART:.*]] = "volta.slice"
// CHECK-NEXT: "volta.reshape"(%[[PART]])
func.func @no_whole_part(%x: tensor<12xf32>) -> tensor<2x4xf32> {
  %0 = "volta.slice"(%x) {start = array<i64: 2>, limit = array<i64: 10>, strides = array<i64: 1>} : (tensor<12xf32>) -> tensor<8xf32>
  %1 = "volta.reshape"(%0) {shape = array<i64: 2, 4>} : (tensor<8xf32>) -> tensor<2x4xf32>
  return %1 : tensor<2x4xf32>
}

// -----

// The sum of tensors in different blocks: a selection for each, added up before the axes merge.

// CHECK-LABEL: func.func @blocks
// CHECK-NOT: "volta.pad"
// CHECK-COUNT-2: "volta.select"({{.*}}) : (tensor<3x2x4xi1>, tensor<3x2x4xf32>, tensor<3x2x4xf32>)
// CHECK: %[[SUM:.*]] = "volta.add"({{.*}}) : (tensor<3x2x4xf32>, tensor<3x2x4xf32>)
// CHECK-NEXT: "volta.reshape"(%[[SUM]]) {shape = array<i64: 3, 8>}
func.func @blocks(%x: tensor<3x4xf32>, %y: tensor<3x4xf32>, %zero: tensor<f32>) -> tensor<3x8xf32> {
  %0 = "volta.pad"(%x, %zero) {low = array<i64: 0, 0>, high = array<i64: 0, 4>, interior = array<i64: 0, 0>} : (tensor<3x4xf32>, tensor<f32>) -> tensor<3x8xf32>
  %1 = "volta.pad"(%y, %zero) {low = array<i64: 0, 4>, high = array<i64: 0, 0>, interior = array<i64: 0, 0>} : (tensor<3x4xf32>, tensor<f32>) -> tensor<3x8xf32>
  %2 = "volta.add"(%0, %1) : (tensor<3x8xf32>, tensor<3x8xf32>) -> tensor<3x8xf32>
  return %2 : tensor<3x8xf32>
}

// -----

// A pad that is no block, and one that is not added.

// CHECK-LABEL: func.func @no_blocks
// CHECK-COUNT-2: "volta.pad"
func.func @no_blocks(%x: tensor<4xf32>, %zero: tensor<f32>, %y: tensor<7xf32>) -> (tensor<7xf32>, tensor<8xf32>) {
  %0 = "volta.pad"(%x, %zero) {low = array<i64: 0>, high = array<i64: 3>, interior = array<i64: 0>} : (tensor<4xf32>, tensor<f32>) -> tensor<7xf32>
  %1 = "volta.add"(%0, %y) : (tensor<7xf32>, tensor<7xf32>) -> tensor<7xf32>
  %2 = "volta.pad"(%x, %zero) {low = array<i64: 0>, high = array<i64: 4>, interior = array<i64: 0>} : (tensor<4xf32>, tensor<f32>) -> tensor<8xf32>
  return %1, %2 : tensor<7xf32>, tensor<8xf32>
}
