// What arranges the input and the kernel of a convolution stays out of its loops: IREE would leave them scalar, with
// transpositions inside, and so many times slower. The name of a dispatch says what its loops are.

// RUN: volta-opt %s --convert-volta-to-linalg \
// RUN:   | iree-compile - --iree-hal-target-device=local --iree-hal-local-target-device-backends=llvm-cpu \
// RUN:       --iree-opt-level=O1 --iree-opt-data-tiling --compile-to=flow \
// RUN:   | filecheck %s

// The loops over N, H, W, O, then those over the kernel and I, read both operands where they lie.

// CHECK: func.func @channels_first_dispatch_{{[0-9]+}}_conv_2x16x16x24x3x3x8_f32(
// CHECK: %[[X:.*]] = iree_tensor_ext.dispatch.tensor.load {{.*}} -> tensor<2x18x18x8xf32>
// CHECK: %[[W:.*]] = iree_tensor_ext.dispatch.tensor.load {{.*}} -> tensor<3x3x8x24xf32>
// CHECK: linalg.generic {indexing_maps = [affine_map<(d0, d1, d2, d3, d4, d5, d6) -> (d0, d1 + d4, d2 + d5, d6)>, affine_map<(d0, d1, d2, d3, d4, d5, d6) -> (d4, d5, d6, d3)>, {{.*}} ins(%[[X]], %[[W]] :
func.func @channels_first(%x: tensor<2x8x16x16xf32>, %w: tensor<24x8x3x3xf32>) -> tensor<2x24x16x16xf32> {
  %0 = "volta.convolution"(%x, %w) {
    strides = array<i64: 1, 1>, low = array<i64: 1, 1>, high = array<i64: 1, 1>, dilation = array<i64: 1, 1>,
    groups = 1 : i64, layout = "NCHW"
  } : (tensor<2x8x16x16xf32>, tensor<24x8x3x3xf32>) -> tensor<2x24x16x16xf32>
  return %0 : tensor<2x24x16x16xf32>
}

// A kernel of one row makes a convolution over rows, whose loops have the kernel's only extent.

// CHECK: func.func @one_row_dispatch_{{[0-9]+}}_conv_32x16x24x3x8_f32(
// CHECK: linalg.generic {indexing_maps = [affine_map<(d0, d1, d2, d3, d4) -> (d0, d1 + d3, d4)>, affine_map<(d0, d1, d2, d3, d4) -> (d3, d4, d2)>,
func.func @one_row(%x: tensor<2x16x16x8xf32>, %w: tensor<1x3x8x24xf32>) -> tensor<2x16x16x24xf32> {
  %0 = "volta.convolution"(%x, %w) {
    strides = array<i64: 1, 1>, low = array<i64: 0, 1>, high = array<i64: 0, 1>, dilation = array<i64: 1, 1>,
    groups = 1 : i64, layout = "NHWC"
  } : (tensor<2x16x16x8xf32>, tensor<1x3x8x24xf32>) -> tensor<2x16x16x24xf32>
  return %0 : tensor<2x16x16x24xf32>
}

// One channel per group: loops over N, H, W, C and the kernel.

// CHECK: func.func @depthwise_dispatch_{{[0-9]+}}_conv_2x16x16x8x3x3_f32(
// CHECK: linalg.generic {indexing_maps = [affine_map<(d0, d1, d2, d3, d4, d5) -> (d0, d1 + d4, d2 + d5, d3)>, affine_map<(d0, d1, d2, d3, d4, d5) -> (d4, d5, d3)>,
func.func @depthwise(%x: tensor<2x8x16x16xf32>, %w: tensor<8x1x3x3xf32>) -> tensor<2x8x16x16xf32> {
  %0 = "volta.convolution"(%x, %w) {
    strides = array<i64: 1, 1>, low = array<i64: 1, 1>, high = array<i64: 1, 1>, dilation = array<i64: 1, 1>,
    groups = 8 : i64, layout = "NCHW"
  } : (tensor<2x8x16x16xf32>, tensor<8x1x3x3xf32>) -> tensor<2x8x16x16xf32>
  return %0 : tensor<2x8x16x16xf32>
}
