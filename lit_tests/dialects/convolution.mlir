// Convolutions become one linalg.generic with channels last, which is the structure that IREE has fast code for.

// RUN: volta-opt %s --split-input-file --verify-diagnostics --convert-volta-to-linalg | filecheck %s

// CHECK: #[[INPUT:.*]] = affine_map<(d0, d1, d2, d3, d4, d5, d6) -> (d0, d1 * 2 + d4, d2 + d5 * 2, d6)>
// CHECK: #[[KERNEL:.*]] = affine_map<(d0, d1, d2, d3, d4, d5, d6) -> (d4, d5, d6, d3)>
// CHECK-LABEL: func.func @channels_last
// CHECK: tensor.insert_slice %{{.*}} into %{{.*}}[0, 1, 1, 0] [2, 9, 8, 3] [1, 1, 1, 1] : tensor<2x9x8x3xf32> into tensor<2x11x10x3xf32>
// CHECK: linalg.generic {indexing_maps = [#[[INPUT]], #[[KERNEL]], #{{.*}}], iterator_types = ["parallel", "parallel", "parallel", "parallel", "reduction", "reduction", "reduction"]} ins(%{{.*}}, %{{.*}} : tensor<2x11x10x3xf32>, tensor<3x3x3x4xf32>) outs(%{{.*}} : tensor<2x5x6x4xf32>)
func.func @channels_last(%x: tensor<2x9x8x3xf32>, %w: tensor<3x3x3x4xf32>) -> tensor<2x5x6x4xf32> {
  %0 = "volta.convolution"(%x, %w) {strides = array<i64: 2, 1>, low = array<i64: 1, 1>, high = array<i64: 1, 1>, dilation = array<i64: 1, 2>, groups = 1 : i64, layout = "NHWC"} : (tensor<2x9x8x3xf32>, tensor<3x3x3x4xf32>) -> tensor<2x5x6x4xf32>
  return %0 : tensor<2x5x6x4xf32>
}

// -----

// The transposed kernel is written into a tensor, so that IREE does not fold the transposition into the convolution.
// CHECK-LABEL: func.func @channels_first
// CHECK: linalg.generic {{.*}} ins(%{{.*}} : tensor<2x3x8x8xf32>) outs(%{{.*}} : tensor<2x8x8x3xf32>)
// CHECK: %[[KERNEL:.*]] = linalg.generic {{.*}} ins(%{{.*}} : tensor<4x3x3x3xf32>) outs(%{{.*}} : tensor<3x3x3x4xf32>)
// CHECK: tensor.insert_slice %[[KERNEL]] into %{{.*}} : tensor<3x3x3x4xf32> into tensor<3x3x3x1x4xf32>
// CHECK: linalg.generic {{.*}} outs(%{{.*}} : tensor<2x6x6x4xf32>)
// CHECK: linalg.generic {{.*}} ins(%{{.*}} : tensor<2x6x6x4xf32>) outs(%{{.*}} : tensor<2x4x6x6xf32>)
func.func @channels_first(%x: tensor<2x3x8x8xf32>, %w: tensor<4x3x3x3xf32>) -> tensor<2x4x6x6xf32> {
  %0 = "volta.convolution"(%x, %w) {strides = array<i64: 1, 1>, low = array<i64: 0, 0>, high = array<i64: 0, 0>, dilation = array<i64: 1, 1>, groups = 1 : i64, layout = "NCHW"} : (tensor<2x3x8x8xf32>, tensor<4x3x3x3xf32>) -> tensor<2x4x6x6xf32>
  return %0 : tensor<2x4x6x6xf32>
}

// -----

// CHECK-LABEL: func.func @depthwise
// CHECK: linalg.generic {{{.*}}iterator_types = ["parallel", "parallel", "parallel", "parallel", "reduction", "reduction"]} ins(%{{.*}}, %{{.*}} : tensor<1x8x8x5xf32>, tensor<3x3x5xf32>)
func.func @depthwise(%x: tensor<1x8x8x5xf32>, %w: tensor<3x3x1x5xf32>) -> tensor<1x6x6x5xf32> {
  %0 = "volta.convolution"(%x, %w) {strides = array<i64: 1, 1>, low = array<i64: 0, 0>, high = array<i64: 0, 0>, dilation = array<i64: 1, 1>, groups = 5 : i64, layout = "NHWC"} : (tensor<1x8x8x5xf32>, tensor<3x3x1x5xf32>) -> tensor<1x6x6x5xf32>
  return %0 : tensor<1x6x6x5xf32>
}

// -----

// 29 results to a row are hard to divide into vectors: 30 are computed.
// CHECK-LABEL: func.func @prime_width
// CHECK: linalg.generic {{.*}} outs(%{{.*}} : tensor<1x1x30x16xf32>)
// CHECK: tensor.extract_slice %{{.*}}[0, 0, 0, 0] [1, 1, 29, 16] [1, 1, 1, 1]
func.func @prime_width(%x: tensor<1x3x31x16xf32>, %w: tensor<3x3x16x16xf32>) -> tensor<1x1x29x16xf32> {
  %0 = "volta.convolution"(%x, %w) {strides = array<i64: 1, 1>, low = array<i64: 0, 0>, high = array<i64: 0, 0>, dilation = array<i64: 1, 1>, groups = 1 : i64, layout = "NHWC"} : (tensor<1x3x31x16xf32>, tensor<3x3x16x16xf32>) -> tensor<1x1x29x16xf32>
  return %0 : tensor<1x1x29x16xf32>
}

// -----

// With stride 2 there are 2 x 2 phases among the output channels of one convolution of stride 1.
// CHECK-LABEL: func.func @input_gradient
// CHECK: linalg.generic {{.*}} ins(%{{.*}}, %{{.*}} : tensor<1x5x5x6xf32>, tensor<2x2x6x16xf32>) outs(%{{.*}} : tensor<1x4x4x16xf32>)
func.func @input_gradient(%y: tensor<1x3x3x6xf32>, %w: tensor<3x3x4x6xf32>) -> tensor<1x7x7x4xf32> {
  %0 = "volta.convolution_input_grad"(%y, %w) {strides = array<i64: 2, 2>, low = array<i64: 0, 0>, high = array<i64: 0, 0>, dilation = array<i64: 1, 1>, groups = 1 : i64, layout = "NHWC", extents = array<i64: 7, 7>} : (tensor<1x3x3x6xf32>, tensor<3x3x4x6xf32>) -> tensor<1x7x7x4xf32>
  return %0 : tensor<1x7x7x4xf32>
}

// -----

// A matrix product for each place in the kernel.
// CHECK-LABEL: func.func @kernel_gradient
// CHECK: linalg.generic {{.*}} ins(%{{.*}}, %{{.*}} : tensor<36x16xf32>, tensor<36x6xf32>) outs(%{{.*}} : tensor<16x6xf32>)
// CHECK: linalg.generic {{.*}} ins(%{{.*}}, %{{.*}} : tensor<36x16xf32>, tensor<36x6xf32>) outs(%{{.*}} : tensor<16x6xf32>)
// CHECK: tensor.concat
func.func @kernel_gradient(%x: tensor<1x6x7x16xf32>, %y: tensor<1x6x6x6xf32>) -> tensor<1x2x16x6xf32> {
  %0 = "volta.convolution_kernel_grad"(%x, %y) {strides = array<i64: 1, 1>, low = array<i64: 0, 0>, high = array<i64: 0, 0>, dilation = array<i64: 1, 1>, groups = 1 : i64, layout = "NHWC", extents = array<i64: 1, 2>} : (tensor<1x6x7x16xf32>, tensor<1x6x6x6xf32>) -> tensor<1x2x16x6xf32>
  return %0 : tensor<1x2x16x6xf32>
}

// -----

func.func @channels_do_not_fit(%x: tensor<2x3x8xf32>, %w: tensor<4x2x3xf32>) -> tensor<2x4x6xf32> {
  // expected-error @below {{with (4, 2, 3), (2, 3, 8) should be (2, 2, 8)}}
  %0 = "volta.convolution"(%x, %w) {strides = array<i64: 1>, low = array<i64: 0>, high = array<i64: 0>, dilation = array<i64: 1>, groups = 1 : i64, layout = "NCW"} : (tensor<2x3x8xf32>, tensor<4x2x3xf32>) -> tensor<2x4x6xf32>
  return %0 : tensor<2x4x6xf32>
}

// -----

func.func @unknown_layout(%x: tensor<2x3x8xf32>, %w: tensor<4x3x3xf32>) -> tensor<2x4x6xf32> {
  // expected-error @below {{'volta.convolution' layout must be one of NCW, NWC, NCHW, NHWC, NCDHW, NDHWC, got 'NWHC'}}
  %0 = "volta.convolution"(%x, %w) {strides = array<i64: 1>, low = array<i64: 0>, high = array<i64: 0>, dilation = array<i64: 1>, groups = 1 : i64, layout = "NWHC"} : (tensor<2x3x8xf32>, tensor<4x3x3xf32>) -> tensor<2x4x6xf32>
  return %0 : tensor<2x4x6xf32>
}
