// Reductions become linalg reductions from the identity, cumulative ops IREE's scan.

// RUN: volta-opt %s --split-input-file --verify-diagnostics --convert-volta-to-linalg | filecheck %s

// CHECK-LABEL: func.func @reduce_sum
// CHECK: %[[ZERO:.*]] = arith.constant 0.000000e+00 : f32
// CHECK: %[[START:.*]] = linalg.fill ins(%[[ZERO]] : f32)
// CHECK: linalg.generic {{{.*}}iterator_types = ["parallel", "reduction"]} ins(%{{.*}} : tensor<3x5xf32>) outs(%[[START]] : tensor<3xf32>)
// CHECK: arith.addf
func.func @reduce_sum(%x: tensor<3x5xf32>) -> tensor<3xf32> {
  %0 = "volta.reduce_sum"(%x) {axes = array<i64: 1>} : (tensor<3x5xf32>) -> tensor<3xf32>
  return %0 : tensor<3xf32>
}

// -----

// CHECK-LABEL: func.func @half_precision_accumulates_in_float32
// CHECK: linalg.generic {{.*}} ins(%{{.*}} : tensor<3x5xbf16>) outs(%{{.*}} : tensor<5xf32>)
// CHECK: arith.extf {{.*}} : bf16 to f32
// CHECK: arith.mulf {{.*}} : f32
// CHECK: arith.truncf {{.*}} : f32 to bf16
func.func @half_precision_accumulates_in_float32(%x: tensor<3x5xbf16>) -> tensor<5xbf16> {
  %0 = "volta.reduce_prod"(%x) {axes = array<i64: 0>} : (tensor<3x5xbf16>) -> tensor<5xbf16>
  return %0 : tensor<5xbf16>
}

// -----

// Signed extrema are those of unsigned numbers with the sign bit flipped.
// CHECK-LABEL: func.func @signedness
// CHECK: arith.constant 0 : i8
// CHECK: arith.xori
// CHECK: arith.maxui
// CHECK: arith.xori
// CHECK: arith.constant 0 : i8
// CHECK-NOT: arith.xori
// CHECK: arith.maxui
// CHECK: arith.constant -1 : i8
// CHECK: arith.minui
func.func @signedness(%x: tensor<5xi8>, %y: tensor<5xui8>) -> (tensor<i8>, tensor<ui8>, tensor<ui8>) {
  %0 = "volta.reduce_max"(%x) {axes = array<i64: 0>} : (tensor<5xi8>) -> tensor<i8>
  %1 = "volta.reduce_max"(%y) {axes = array<i64: 0>} : (tensor<5xui8>) -> tensor<ui8>
  %2 = "volta.reduce_min"(%y) {axes = array<i64: 0>} : (tensor<5xui8>) -> tensor<ui8>
  return %0, %1, %2 : tensor<i8>, tensor<ui8>, tensor<ui8>
}

// -----

// CHECK-LABEL: func.func @logical
// CHECK: arith.constant false
// CHECK: arith.ori
// CHECK: arith.constant true
// CHECK: arith.andi
func.func @logical(%x: tensor<3x5xi1>) -> (tensor<i1>, tensor<3xi1>) {
  %0 = "volta.reduce_any"(%x) {axes = array<i64: 0, 1>} : (tensor<3x5xi1>) -> tensor<i1>
  %1 = "volta.reduce_all"(%x) {axes = array<i64: 1>} : (tensor<3x5xi1>) -> tensor<3xi1>
  return %0, %1 : tensor<i1>, tensor<3xi1>
}

// -----

// The extremum first, then the smallest index where it is: both vectorise.
// CHECK-LABEL: func.func @argmax
// CHECK: %[[BEST:.*]] = linalg.generic
// CHECK: arith.maximumf
// CHECK: linalg.generic {{.*}} ins(%{{.*}}, %[[BEST]] : tensor<3x5xf32>, tensor<3xf32>) outs(%{{.*}} : tensor<3xi32>)
// CHECK: arith.cmpf uno
// CHECK: arith.minui
func.func @argmax(%x: tensor<3x5xf32>) -> tensor<3xi32> {
  %0 = "volta.argmax"(%x) {axis = 1 : i64} : (tensor<3x5xf32>) -> tensor<3xi32>
  return %0 : tensor<3xi32>
}

// -----

// CHECK-LABEL: func.func @cumsum
// CHECK: "iree_linalg_ext.scan"
// CHECK: arith.addf
// CHECK: "iree_linalg_ext.yield"
// CHECK: dimension = 1 : i64
// CHECK-NOT: tensor.extract
func.func @cumsum(%x: tensor<3x5xf32>) -> tensor<3x5xf32> {
  %0 = "volta.cumsum"(%x) {axis = 1 : i64, reverse = false} : (tensor<3x5xf32>) -> tensor<3x5xf32>
  return %0 : tensor<3x5xf32>
}

// -----

// CHECK-LABEL: func.func @backwards
// CHECK: tensor.extract
// CHECK: "iree_linalg_ext.scan"
// CHECK: arith.maximumf
// CHECK: tensor.extract
func.func @backwards(%x: tensor<3x5xf32>) -> tensor<3x5xf32> {
  %0 = "volta.cummax"(%x) {axis = 0 : i64, reverse = true} : (tensor<3x5xf32>) -> tensor<3x5xf32>
  return %0 : tensor<3x5xf32>
}

// -----

// CHECK-LABEL: func.func @running_product_in_float32
// CHECK: arith.extf {{.*}} : bf16 to f32
// CHECK: "iree_linalg_ext.scan"
// CHECK: arith.mulf {{.*}} : f32
// CHECK: arith.truncf {{.*}} : f32 to bf16
func.func @running_product_in_float32(%x: tensor<3x5xbf16>) -> tensor<3x5xbf16> {
  %0 = "volta.cumprod"(%x) {axis = 1 : i64, reverse = false} : (tensor<3x5xbf16>) -> tensor<3x5xbf16>
  return %0 : tensor<3x5xbf16>
}

// -----

func.func @axis_out_of_range(%x: tensor<3x5xf32>) -> tensor<3xf32> {
  // expected-error @below {{axes must ascend within the rank of float32[3,5], got (2,)}}
  %0 = "volta.reduce_sum"(%x) {axes = array<i64: 2>} : (tensor<3x5xf32>) -> tensor<3xf32>
  return %0 : tensor<3xf32>
}

// -----

func.func @numbers_are_not_true(%x: tensor<3x5xi32>) -> tensor<3xi32> {
  // expected-error @below {{takes bool, got int32[3,5]}}
  %0 = "volta.reduce_any"(%x) {axes = array<i64: 1>} : (tensor<3x5xi32>) -> tensor<3xi32>
  return %0 : tensor<3xi32>
}

// -----

func.func @nothing_to_choose_from(%x: tensor<3x0xf32>) -> tensor<3xi32> {
  // expected-error @below {{axis 1 of float32[3,0] has no elements to choose from}}
  %0 = "volta.argmin"(%x) {axis = 1 : i64} : (tensor<3x0xf32>) -> tensor<3xi32>
  return %0 : tensor<3xi32>
}
