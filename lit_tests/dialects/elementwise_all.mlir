// Every further elementwise op: text round trip, and one linalg.generic each.

// RUN: volta-opt %s | volta-opt | filecheck %s
// RUN: volta-opt %s --convert-volta-to-linalg | filecheck %s --check-prefix=LINALG

// CHECK-LABEL: func.func @binary_floats
// LINALG-LABEL: func.func @binary_floats
// CHECK: "volta.pow"(%{{.*}}, %{{.*}}) : (tensor<4xf32>, tensor<4xf32>) -> tensor<4xf32>
// CHECK: "volta.minimum"(%{{.*}}, %{{.*}}) : (tensor<4xf32>, tensor<4xf32>) -> tensor<4xf32>
// CHECK: "volta.atan2"(%{{.*}}, %{{.*}}) : (tensor<4xf32>, tensor<4xf32>) -> tensor<4xf32>
// CHECK: "volta.logaddexp"(%{{.*}}, %{{.*}}) : (tensor<4xf32>, tensor<4xf32>) -> tensor<4xf32>
// LINALG: linalg.generic
// LINALG: linalg.generic
// LINALG: linalg.generic
// LINALG: linalg.generic
// LINALG-NOT: volta.
func.func @binary_floats(%x: tensor<4xf32>, %y: tensor<4xf32>) -> tensor<4xf32> {
  %0 = "volta.pow"(%x, %y) : (tensor<4xf32>, tensor<4xf32>) -> tensor<4xf32>
  %1 = "volta.minimum"(%0, %y) : (tensor<4xf32>, tensor<4xf32>) -> tensor<4xf32>
  %2 = "volta.atan2"(%1, %y) : (tensor<4xf32>, tensor<4xf32>) -> tensor<4xf32>
  %3 = "volta.logaddexp"(%2, %y) : (tensor<4xf32>, tensor<4xf32>) -> tensor<4xf32>
  return %3 : tensor<4xf32>
}

// CHECK-LABEL: func.func @unary_floats
// LINALG-LABEL: func.func @unary_floats
// CHECK: "volta.abs"(%{{.*}}) : (tensor<4xf32>) -> tensor<4xf32>
// CHECK: "volta.sign"(%{{.*}}) : (tensor<4xf32>) -> tensor<4xf32>
// CHECK: "volta.expm1"(%{{.*}}) : (tensor<4xf32>) -> tensor<4xf32>
// CHECK: "volta.log"(%{{.*}}) : (tensor<4xf32>) -> tensor<4xf32>
// CHECK: "volta.log1p"(%{{.*}}) : (tensor<4xf32>) -> tensor<4xf32>
// CHECK: "volta.sqrt"(%{{.*}}) : (tensor<4xf32>) -> tensor<4xf32>
// CHECK: "volta.rsqrt"(%{{.*}}) : (tensor<4xf32>) -> tensor<4xf32>
// CHECK: "volta.cbrt"(%{{.*}}) : (tensor<4xf32>) -> tensor<4xf32>
// CHECK: "volta.tan"(%{{.*}}) : (tensor<4xf32>) -> tensor<4xf32>
// CHECK: "volta.asin"(%{{.*}}) : (tensor<4xf32>) -> tensor<4xf32>
// CHECK: "volta.acos"(%{{.*}}) : (tensor<4xf32>) -> tensor<4xf32>
// CHECK: "volta.sinh"(%{{.*}}) : (tensor<4xf32>) -> tensor<4xf32>
// CHECK: "volta.cosh"(%{{.*}}) : (tensor<4xf32>) -> tensor<4xf32>
// CHECK: "volta.erf"(%{{.*}}) : (tensor<4xf32>) -> tensor<4xf32>
// CHECK: "volta.logistic"(%{{.*}}) : (tensor<4xf32>) -> tensor<4xf32>
// CHECK: "volta.floor"(%{{.*}}) : (tensor<4xf32>) -> tensor<4xf32>
// CHECK: "volta.ceil"(%{{.*}}) : (tensor<4xf32>) -> tensor<4xf32>
// CHECK: "volta.round"(%{{.*}}) : (tensor<4xf32>) -> tensor<4xf32>
// LINALG: linalg.generic
// LINALG: linalg.generic
// LINALG: linalg.generic
// LINALG: linalg.generic
// LINALG: linalg.generic
// LINALG: linalg.generic
// LINALG: linalg.generic
// LINALG: linalg.generic
// LINALG: linalg.generic
// LINALG: linalg.generic
// LINALG: linalg.generic
// LINALG: linalg.generic
// LINALG: linalg.generic
// LINALG: linalg.generic
// LINALG: linalg.generic
// LINALG: linalg.generic
// LINALG: linalg.generic
// LINALG: linalg.generic
// LINALG-NOT: volta.
func.func @unary_floats(%x: tensor<4xf32>) -> tensor<4xf32> {
  %0 = "volta.abs"(%x) : (tensor<4xf32>) -> tensor<4xf32>
  %1 = "volta.sign"(%0) : (tensor<4xf32>) -> tensor<4xf32>
  %2 = "volta.expm1"(%1) : (tensor<4xf32>) -> tensor<4xf32>
  %3 = "volta.log"(%2) : (tensor<4xf32>) -> tensor<4xf32>
  %4 = "volta.log1p"(%3) : (tensor<4xf32>) -> tensor<4xf32>
  %5 = "volta.sqrt"(%4) : (tensor<4xf32>) -> tensor<4xf32>
  %6 = "volta.rsqrt"(%5) : (tensor<4xf32>) -> tensor<4xf32>
  %7 = "volta.cbrt"(%6) : (tensor<4xf32>) -> tensor<4xf32>
  %8 = "volta.tan"(%7) : (tensor<4xf32>) -> tensor<4xf32>
  %9 = "volta.asin"(%8) : (tensor<4xf32>) -> tensor<4xf32>
  %10 = "volta.acos"(%9) : (tensor<4xf32>) -> tensor<4xf32>
  %11 = "volta.sinh"(%10) : (tensor<4xf32>) -> tensor<4xf32>
  %12 = "volta.cosh"(%11) : (tensor<4xf32>) -> tensor<4xf32>
  %13 = "volta.erf"(%12) : (tensor<4xf32>) -> tensor<4xf32>
  %14 = "volta.logistic"(%13) : (tensor<4xf32>) -> tensor<4xf32>
  %15 = "volta.floor"(%14) : (tensor<4xf32>) -> tensor<4xf32>
  %16 = "volta.ceil"(%15) : (tensor<4xf32>) -> tensor<4xf32>
  %17 = "volta.round"(%16) : (tensor<4xf32>) -> tensor<4xf32>
  return %17 : tensor<4xf32>
}

// CHECK-LABEL: func.func @binary_integers
// LINALG-LABEL: func.func @binary_integers
// CHECK: "volta.or"(%{{.*}}, %{{.*}}) : (tensor<4xui16>, tensor<4xui16>) -> tensor<4xui16>
// CHECK: "volta.xor"(%{{.*}}, %{{.*}}) : (tensor<4xui16>, tensor<4xui16>) -> tensor<4xui16>
// CHECK: "volta.shift_right_logical"(%{{.*}}, %{{.*}}) : (tensor<4xui16>, tensor<4xui16>) -> tensor<4xui16>
// LINALG: linalg.generic
// LINALG: linalg.generic
// LINALG: linalg.generic
// LINALG-NOT: volta.
func.func @binary_integers(%x: tensor<4xui16>, %y: tensor<4xui16>) -> tensor<4xui16> {
  %0 = "volta.or"(%x, %y) : (tensor<4xui16>, tensor<4xui16>) -> tensor<4xui16>
  %1 = "volta.xor"(%0, %y) : (tensor<4xui16>, tensor<4xui16>) -> tensor<4xui16>
  %2 = "volta.shift_right_logical"(%1, %y) : (tensor<4xui16>, tensor<4xui16>) -> tensor<4xui16>
  return %2 : tensor<4xui16>
}

// CHECK-LABEL: func.func @arithmetic
// CHECK: "volta.neg"(%{{.*}}) : (tensor<4xf32>) -> tensor<4xf32>
// CHECK: "volta.cos"(%{{.*}}) : (tensor<4xf32>) -> tensor<4xf32>
// CHECK: "volta.mul"(%{{.*}}, %{{.*}}) : (tensor<4xf32>, tensor<4xf32>) -> tensor<4xf32>
// CHECK: "volta.sub"(%{{.*}}, %{{.*}}) : (tensor<4xf32>, tensor<4xf32>) -> tensor<4xf32>
// CHECK: "volta.stop_gradient"(%{{.*}}) : (tensor<4xf32>) -> tensor<4xf32>
// CHECK: "volta.checkpoint_name"(%{{.*}}) {label = "a value"} : (tensor<4xf32>) -> tensor<4xf32>
// LINALG-LABEL: func.func @arithmetic
// LINALG: arith.negf
// LINALG: arith.mulf
// LINALG: arith.subf
// LINALG-NOT: linalg.generic
func.func @arithmetic(%x: tensor<4xf32>, %y: tensor<4xf32>) -> tensor<4xf32> {
  %0 = "volta.neg"(%x) : (tensor<4xf32>) -> tensor<4xf32>
  %1 = "volta.cos"(%0) : (tensor<4xf32>) -> tensor<4xf32>
  %2 = "volta.mul"(%1, %y) : (tensor<4xf32>, tensor<4xf32>) -> tensor<4xf32>
  %3 = "volta.sub"(%2, %x) : (tensor<4xf32>, tensor<4xf32>) -> tensor<4xf32>
  %4 = "volta.stop_gradient"(%3) : (tensor<4xf32>) -> tensor<4xf32>
  %5 = "volta.checkpoint_name"(%4) {label = "a value"} : (tensor<4xf32>) -> tensor<4xf32>
  return %5 : tensor<4xf32>
}
