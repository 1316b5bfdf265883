// What follows a product element by element is computed in the product's dispatch.

// RUN: volta-opt %s --volta-fuse --split-input-file | filecheck %s
// RUN: volta-opt %s --volta-fuse="epilogues=false" --split-input-file | filecheck %s --check-prefix=OFF
// RUN: volta-opt %s --volta-fuse --convert-volta-to-linalg --split-input-file | filecheck %s --check-prefix=LINALG

// OFF-NOT: volta.epilogue

// A bias and an activation function. Saved are the product and the sum, written and read.

// CHECK-LABEL: func.func @bias
// CHECK-NEXT: %[[P:.*]] = "volta.dot_general"
// CHECK-NEXT: call @bias.fused(%arg2, %[[P]]) {volta.epilogue, volta.saved = 24576 : i64}
// CHECK-NEXT: return
// LINALG-LABEL: func.func @bias
// LINALG: %[[P:.*]] = linalg.generic {{.*}} iterator_types = ["parallel", "parallel", "reduction"]
// LINALG-NOT: flow.dispatch.region
// LINALG: linalg.generic {{.*}} ins(%arg2, %[[P]] :
// LINALG: return
func.func @bias(%x: tensor<64x32xf32>, %w: tensor<32x16xf32>, %b: tensor<16xf32>) -> tensor<64x16xf32> {
  %0 = "volta.dot_general"(%x, %w) {lhs_batch = array<i64>, rhs_batch = array<i64>, lhs_contract = array<i64: 1>, rhs_contract = array<i64: 0>, dtype = f32} : (tensor<64x32xf32>, tensor<32x16xf32>) -> tensor<64x16xf32>
  %1 = "volta.broadcast_in_dim"(%b) {dims = array<i64: 1>, shape = array<i64: 64, 16>} : (tensor<16xf32>) -> tensor<64x16xf32>
  %2 = "volta.add"(%0, %1) : (tensor<64x16xf32>, tensor<64x16xf32>) -> tensor<64x16xf32>
  %3 = "volta.tanh"(%2) : (tensor<64x16xf32>) -> tensor<64x16xf32>
  return %3 : tensor<64x16xf32>
}

// -----

// Reshaped on the way, which costs nothing.

// CHECK-LABEL: func.func @reshaped
// CHECK: call @reshaped.fused(%{{.*}}) {volta.epilogue
func.func @reshaped(%x: tensor<64x32xf32>, %w: tensor<32x16xf32>) -> tensor<8x8x16xf32> {
  %0 = "volta.dot_general"(%x, %w) {lhs_batch = array<i64>, rhs_batch = array<i64>, lhs_contract = array<i64: 1>, rhs_contract = array<i64: 0>, dtype = f32} : (tensor<64x32xf32>, tensor<32x16xf32>) -> tensor<64x16xf32>
  %1 = "volta.reshape"(%0) {shape = array<i64: 8, 8, 16>} : (tensor<64x16xf32>) -> tensor<8x8x16xf32>
  %2 = "volta.tanh"(%1) : (tensor<8x8x16xf32>) -> tensor<8x8x16xf32>
  %3 = "volta.abs"(%2) : (tensor<8x8x16xf32>) -> tensor<8x8x16xf32>
  return %3 : tensor<8x8x16xf32>
}

// -----

// What reads another whole tensor, such as a residual, is no epilogue of a contraction.

// CHECK-LABEL: func.func @residual
// CHECK-NOT: volta.epilogue
func.func @residual(%x: tensor<64x32xf32>, %w: tensor<32x16xf32>, %r: tensor<64x16xf32>) -> tensor<64x16xf32> {
  %0 = "volta.dot_general"(%x, %w) {lhs_batch = array<i64>, rhs_batch = array<i64>, lhs_contract = array<i64: 1>, rhs_contract = array<i64: 0>, dtype = f32} : (tensor<64x32xf32>, tensor<32x16xf32>) -> tensor<64x16xf32>
  %1 = "volta.add"(%0, %r) : (tensor<64x16xf32>, tensor<64x16xf32>) -> tensor<64x16xf32>
  %2 = "volta.tanh"(%1) : (tensor<64x16xf32>) -> tensor<64x16xf32>
  return %2 : tensor<64x16xf32>
}

// -----

// But it is one of a convolution.

// CHECK-LABEL: func.func @residual_of_images
// CHECK: call @residual_of_images.fused(%{{.*}}) {volta.epilogue
func.func @residual_of_images(%x: tensor<2x8x16x16xf32>, %w: tensor<8x8x3x3xf32>) -> tensor<2x8x16x16xf32> {
  %0 = "volta.convolution"(%x, %w) {strides = array<i64: 1, 1>, low = array<i64: 1, 1>, high = array<i64: 1, 1>, dilation = array<i64: 1, 1>, groups = 1 : i64, layout = "NCHW"} : (tensor<2x8x16x16xf32>, tensor<8x8x3x3xf32>) -> tensor<2x8x16x16xf32>
  %1 = "volta.add"(%0, %x) : (tensor<2x8x16x16xf32>, tensor<2x8x16x16xf32>) -> tensor<2x8x16x16xf32>
  %2 = "volta.tanh"(%1) : (tensor<2x8x16x16xf32>) -> tensor<2x8x16x16xf32>
  return %2 : tensor<2x8x16x16xf32>
}

// -----

// There is none where the product is needed besides: it would be stored anyway.

// CHECK-LABEL: func.func @needed
// CHECK-NOT: volta.epilogue
func.func @needed(%x: tensor<64x32xf32>, %w: tensor<32x16xf32>) -> (tensor<64x16xf32>, tensor<64x16xf32>) {
  %0 = "volta.dot_general"(%x, %w) {lhs_batch = array<i64>, rhs_batch = array<i64>, lhs_contract = array<i64: 1>, rhs_contract = array<i64: 0>, dtype = f32} : (tensor<64x32xf32>, tensor<32x16xf32>) -> tensor<64x16xf32>
  %1 = "volta.tanh"(%0) : (tensor<64x16xf32>) -> tensor<64x16xf32>
  %2 = "volta.abs"(%1) : (tensor<64x16xf32>) -> tensor<64x16xf32>
  return %0, %2 : tensor<64x16xf32>, tensor<64x16xf32>
}

// -----

// Or where its elements are read in another order, or some of them several times.

// CHECK-LABEL: func.func @elsewhere
// CHECK-NOT: volta.epilogue
func.func @elsewhere(%x: tensor<64x32xf32>, %w: tensor<32x16xf32>) -> (tensor<16x64xf32>, tensor<4x64x16xf32>) {
  %0 = "volta.dot_general"(%x, %w) {lhs_batch = array<i64>, rhs_batch = array<i64>, lhs_contract = array<i64: 1>, rhs_contract = array<i64: 0>, dtype = f32} : (tensor<64x32xf32>, tensor<32x16xf32>) -> tensor<64x16xf32>
  %1 = "volta.tanh"(%x) : (tensor<64x32xf32>) -> tensor<64x32xf32>
  %2 = "volta.dot_general"(%1, %w) {lhs_batch = array<i64>, rhs_batch = array<i64>, lhs_contract = array<i64: 1>, rhs_contract = array<i64: 0>, dtype = f32} : (tensor<64x32xf32>, tensor<32x16xf32>) -> tensor<64x16xf32>
  %3 = "volta.reshape"(%0) {shape = array<i64: 64, 16>} : (tensor<64x16xf32>) -> tensor<64x16xf32>
  %4 = "volta.transpose"(%3) {permutation = array<i64: 1, 0>} : (tensor<64x16xf32>) -> tensor<16x64xf32>
  %5 = "volta.tanh"(%4) : (tensor<16x64xf32>) -> tensor<16x64xf32>
  %6 = "volta.broadcast_in_dim"(%2) {dims = array<i64: 1, 2>, shape = array<i64: 4, 64, 16>} : (tensor<64x16xf32>) -> tensor<4x64x16xf32>
  %7 = "volta.tanh"(%6) : (tensor<4x64x16xf32>) -> tensor<4x64x16xf32>
  return %5, %7 : tensor<16x64xf32>, tensor<4x64x16xf32>
}
