// IREE computes an epilogue in the dispatch of its product, or of what puts a convolution's result into its layout.

// RUN: volta-opt %s --volta-fuse --convert-volta-to-linalg \
// RUN:   | iree-compile - --iree-hal-target-device=local --iree-hal-local-target-device-backends=llvm-cpu \
// RUN:       --iree-opt-level=O1 --iree-opt-data-tiling --compile-to=flow \
// RUN:   | filecheck %s

// CHECK: util.func public @bias(
// CHECK: flow.dispatch @bias_dispatch_0::@bias_dispatch_0_matmul_like_64x16x32_f32
// CHECK-NOT: flow.dispatch @
// CHECK: util.return
func.func @bias(%x: tensor<64x32xf32>, %w: tensor<32x16xf32>, %b: tensor<16xf32>) -> tensor<64x16xf32> {
  %0 = "volta.dot_general"(%x, %w) {lhs_batch = array<i64>, rhs_batch = array<i64>, lhs_contract = array<i64: 1>, rhs_contract = array<i64: 0>, dtype = f32} : (tensor<64x32xf32>, tensor<32x16xf32>) -> tensor<64x16xf32>
  %1 = "volta.broadcast_in_dim"(%b) {dims = array<i64: 1>, shape = array<i64: 64, 16>} : (tensor<16xf32>) -> tensor<64x16xf32>
  %2 = "volta.add"(%0, %1) : (tensor<64x16xf32>, tensor<64x16xf32>) -> tensor<64x16xf32>
  %3 = "volta.tanh"(%2) : (tensor<64x16xf32>) -> tensor<64x16xf32>
  return %3 : tensor<64x16xf32>
}

// CHECK: util.func public @channels(
// CHECK: flow.dispatch @channels_dispatch_{{[0-9]+}}::@channels_dispatch_{{[0-9]+}}_conv_
// CHECK-NOT: flow.dispatch @
// CHECK: util.return
func.func @channels(%x: tensor<2x8x16x16xf32>, %w: tensor<24x8x3x3xf32>, %b: tensor<24xf32>) -> tensor<2x24x16x16xf32> {
  %0 = "volta.convolution"(%x, %w) {strides = array<i64: 1, 1>, low = array<i64: 1, 1>, high = array<i64: 1, 1>, dilation = array<i64: 1, 1>, groups = 1 : i64, layout = "NCHW"} : (tensor<2x8x16x16xf32>, tensor<24x8x3x3xf32>) -> tensor<2x24x16x16xf32>
  %1 = "volta.broadcast_in_dim"(%b) {dims = array<i64: 1>, shape = array<i64: 2, 24, 16, 16>} : (tensor<24xf32>) -> tensor<2x24x16x16xf32>
  %2 = "volta.add"(%0, %1) : (tensor<2x24x16x16xf32>, tensor<2x24x16x16xf32>) -> tensor<2x24x16x16xf32>
  %3 = "volta.tanh"(%2) : (tensor<2x24x16x16xf32>) -> tensor<2x24x16x16xf32>
  return %3 : tensor<2x24x16x16xf32>
}
