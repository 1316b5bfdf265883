// RUN: volta-opt %s --volta-layout --volta-simplify --cse --split-input-file | filecheck %s

// Between two convolutions nothing is transposed: only what enters and leaves is, and kernels.

// CHECK-LABEL: func.func @network
// CHECK-SAME: (%[[X:.*]]: tensor<2x3x8x8xf32>, %[[W:.*]]: tensor<4x3x3x3xf32>, %[[V:.*]]: tensor<5x4x1x1xf32>, %[[B:.*]]: tensor<4xf32>)
// CHECK-DAG: %[[LAST:.*]] = "volta.transpose"(%[[X]]) {permutation = array<i64: 0, 2, 3, 1>}
// CHECK-DAG: %[[HWIO:.*]] = "volta.transpose"(%[[W]]) {permutation = array<i64: 2, 3, 1, 0>}
// CHECK: %[[Y:.*]] = "volta.convolution"(%[[LAST]], %[[HWIO]]) {{.*}}layout = "NHWC"{{.*}} -> tensor<2x8x8x4xf32>
// CHECK: %[[BIAS:.*]] = "volta.broadcast_in_dim"(%[[B]]) {dims = array<i64: 3>, shape = array<i64: 2, 8, 8, 4>}
// CHECK: %[[SUM:.*]] = "volta.add"(%[[Y]], %[[BIAS]])
// CHECK: %[[POOLED:.*]] = "volta.window_max"(%[[SUM]]) {{.*}}window = array<i64: 1, 2, 2, 1>
// CHECK: "volta.convolution"(%[[POOLED]], {{.*}} -> tensor<2x4x4x5xf32>
// CHECK: %[[FIRST:.*]] = "volta.transpose"({{.*}}) {permutation = array<i64: 0, 3, 1, 2>}
// CHECK-NEXT: return %[[FIRST]]
func.func @network(%x: tensor<2x3x8x8xf32>, %w: tensor<4x3x3x3xf32>, %v: tensor<5x4x1x1xf32>, %b: tensor<4xf32>) -> tensor<2x5x4x4xf32> {
  %0 = "volta.convolution"(%x, %w) {strides = array<i64: 1, 1>, low = array<i64: 1, 1>, high = array<i64: 1, 1>, dilation = array<i64: 1, 1>, groups = 1 : i64, layout = "NCHW"} : (tensor<2x3x8x8xf32>, tensor<4x3x3x3xf32>) -> tensor<2x4x8x8xf32>
  %1 = "volta.broadcast_in_dim"(%b) {shape = array<i64: 2, 4, 8, 8>, dims = array<i64: 1>} : (tensor<4xf32>) -> tensor<2x4x8x8xf32>
  %2 = "volta.add"(%0, %1) : (tensor<2x4x8x8xf32>, tensor<2x4x8x8xf32>) -> tensor<2x4x8x8xf32>
  %3 = "volta.window_max"(%2) {window = array<i64: 1, 1, 2, 2>, strides = array<i64: 1, 1, 2, 2>, low = array<i64: 0, 0, 0, 0>, high = array<i64: 0, 0, 0, 0>, dilation = array<i64: 1, 1, 1, 1>} : (tensor<2x4x8x8xf32>) -> tensor<2x4x4x4xf32>
  %4 = "volta.convolution"(%3, %v) {strides = array<i64: 1, 1>, low = array<i64: 0, 0>, high = array<i64: 0, 0>, dilation = array<i64: 1, 1>, groups = 1 : i64, layout = "NCHW"} : (tensor<2x4x4x4xf32>, tensor<5x4x1x1xf32>) -> tensor<2x5x4x4xf32>
  return %4 : tensor<2x5x4x4xf32>
}

// -----

// A reduction takes the order in, and gives its result as before; statistics by channel need no transposition.

// CHECK-LABEL: func.func @statistics
// CHECK: %[[Y:.*]] = "volta.convolution_input_grad"({{.*}}layout = "NWC"
// CHECK: "volta.reduce_sum"(%[[Y]]) {axes = array<i64: 0, 1>} : (tensor<2x8x3xf32>) -> tensor<3xf32>
// CHECK-NOT: "volta.transpose"
func.func @statistics(%y: tensor<2x4x8xf32>, %w: tensor<4x3x1xf32>) -> tensor<3xf32> {
  %0 = "volta.convolution_input_grad"(%y, %w) {strides = array<i64: 1>, low = array<i64: 0>, high = array<i64: 0>, dilation = array<i64: 1>, groups = 1 : i64, layout = "NCW", extents = array<i64: 8>} : (tensor<2x4x8xf32>, tensor<4x3x1xf32>) -> tensor<2x3x8xf32>
  %1 = "volta.reduce_sum"(%0) {axes = array<i64: 0, 2>} : (tensor<2x3x8xf32>) -> tensor<3xf32>
  return %1 : tensor<3xf32>
}

// -----

// A kernel's gradient comes in the order of the kernel, and what the optimizer does with it stays as it is.

// CHECK-LABEL: func.func @update
// CHECK-SAME: %[[W:[^:]*]]: tensor<4x3x3xf32>)
// CHECK: %[[LAST:.*]] = "volta.convolution_kernel_grad"
// CHECK: %[[GRAD:.*]] = "volta.transpose"(%[[LAST]]) {permutation = array<i64: 2, 1, 0>}
// CHECK: "volta.sub"(%[[W]], %[[GRAD]]) : (tensor<4x3x3xf32>, tensor<4x3x3xf32>)
func.func @update(%x: tensor<2x3x8xf32>, %y: tensor<2x4x6xf32>, %w: tensor<4x3x3xf32>) -> tensor<4x3x3xf32> {
  %0 = "volta.convolution_kernel_grad"(%x, %y) {strides = array<i64: 1>, low = array<i64: 0>, high = array<i64: 0>, dilation = array<i64: 1>, groups = 1 : i64, layout = "NCW", extents = array<i64: 3>} : (tensor<2x3x8xf32>, tensor<2x4x6xf32>) -> tensor<4x3x3xf32>
  %1 = "volta.sub"(%w, %0) : (tensor<4x3x3xf32>, tensor<4x3x3xf32>) -> tensor<4x3x3xf32>
  return %1 : tensor<4x3x3xf32>
}

// -----

// Without a convolution, and where one has channels last already, nothing changes.

// CHECK-LABEL: func.func @as_it_is
// CHECK-NOT: "volta.transpose"
func.func @as_it_is(%x: tensor<2x8x3xf32>, %w: tensor<1x3x4xf32>, %p: tensor<2x3x4x5xf32>) -> (tensor<2x8x4xf32>, tensor<2x3x4x5xf32>) {
  %0 = "volta.convolution"(%x, %w) {strides = array<i64: 1>, low = array<i64: 0>, high = array<i64: 0>, dilation = array<i64: 1>, groups = 1 : i64, layout = "NWC"} : (tensor<2x8x3xf32>, tensor<1x3x4xf32>) -> tensor<2x8x4xf32>
  %1 = "volta.neg"(%p) : (tensor<2x3x4x5xf32>) -> tensor<2x3x4x5xf32>
  return %0, %1 : tensor<2x8x4xf32>, tensor<2x3x4x5xf32>
}

// -----

// A value that one convolution reads with channels first and another one with channels last is transposed for the first
// only; windows that cover the channels, too, keep their order, since elements of windows are numbered in it.

// CHECK-LABEL: func.func @both
// CHECK-SAME: (%[[X:[^:]*]]: tensor<1x2x2xf32>
// CHECK-DAG: "volta.convolution"(%[[X]], {{.*}}layout = "NWC"
// CHECK-DAG: "volta.window_argmax"(%[[X]]) {{.*}}window = array<i64: 1, 2, 2>
// CHECK-DAG: %[[LAST:.*]] = "volta.transpose"(%[[X]]) {permutation = array<i64: 0, 2, 1>}
// CHECK: "volta.convolution"(%[[LAST]], {{.*}}layout = "NWC"
func.func @both(%x: tensor<1x2x2xf32>, %w: tensor<1x2x2xf32>, %v: tensor<1x2x1xf32>) -> (tensor<1x2x2xf32>, tensor<1x1x1xi32>, tensor<1x1x2xf32>) {
  %0 = "volta.convolution"(%x, %w) {strides = array<i64: 1>, low = array<i64: 0>, high = array<i64: 0>, dilation = array<i64: 1>, groups = 1 : i64, layout = "NWC"} : (tensor<1x2x2xf32>, tensor<1x2x2xf32>) -> tensor<1x2x2xf32>
  %1 = "volta.window_argmax"(%x) {window = array<i64: 1, 2, 2>, strides = array<i64: 1, 1, 1>, low = array<i64: 0, 0, 0>, high = array<i64: 0, 0, 0>, dilation = array<i64: 1, 1, 1>} : (tensor<1x2x2xf32>) -> tensor<1x1x1xi32>
  %2 = "volta.convolution"(%x, %v) {strides = array<i64: 1>, low = array<i64: 0>, high = array<i64: 0>, dilation = array<i64: 1>, groups = 1 : i64, layout = "NCW"} : (tensor<1x2x2xf32>, tensor<1x2x1xf32>) -> tensor<1x1x2xf32>
  return %0, %1, %2 : tensor<1x2x2xf32>, tensor<1x1x1xi32>, tensor<1x1x2xf32>
}
