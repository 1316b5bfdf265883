// Ops that make tensors from nothing: text round trip, verifier, and their form in linalg.

// RUN: volta-opt %s --split-input-file --verify-diagnostics | volta-opt --split-input-file | filecheck %s
// RUN: volta-opt %s --split-input-file --verify-diagnostics --convert-volta-to-linalg | filecheck %s --check-prefix=LINALG

// CHECK-LABEL: func.func @constant
// CHECK: "volta.constant"() {value = dense<[1, 2, 255]> : tensor<3xui8>} : () -> tensor<3xui8>
// LINALG-LABEL: func.func @constant() -> tensor<3xi8>
// LINALG: arith.constant dense<[1, 2, -1]> : tensor<3xi8>
func.func @constant() -> tensor<3xui8> {
  %0 = "volta.constant"() {value = dense<[1, 2, 255]> : tensor<3xui8>} : () -> tensor<3xui8>
  return %0 : tensor<3xui8>
}

// -----

// CHECK-LABEL: func.func @full
// CHECK: "volta.full"() {shape = array<i64: 2, 3>, value = dense<1.500000e+00> : tensor<f32>} : () -> tensor<2x3xf32>
// LINALG-LABEL: func.func @full
// LINALG: arith.constant dense<1.500000e+00> : tensor<2x3xf32>
func.func @full() -> tensor<2x3xf32> {
  %0 = "volta.full"() {value = dense<1.5> : tensor<f32>, shape = array<i64: 2, 3>} : () -> tensor<2x3xf32>
  return %0 : tensor<2x3xf32>
}

// -----

// CHECK-LABEL: func.func @iota
// CHECK: "volta.iota"() {axis = 1 : i64, dtype = i32, shape = array<i64: 2, 3>} : () -> tensor<2x3xi32>
// LINALG-LABEL: func.func @iota
// LINALG: linalg.index 1
// LINALG: arith.index_cast
func.func @iota() -> tensor<2x3xi32> {
  %0 = "volta.iota"() {shape = array<i64: 2, 3>, axis = 1 : i64, dtype = i32} : () -> tensor<2x3xi32>
  return %0 : tensor<2x3xi32>
}

// -----

func.func @vector_fill() -> tensor<2xf32> {
  // expected-error @+1 {{'volta.full' the fill value is a scalar, got shape (2,)}}
  %0 = "volta.full"() {value = dense<[1.0, 2.0]> : tensor<2xf32>, shape = array<i64: 2>} : () -> tensor<2xf32>
  return %0 : tensor<2xf32>
}

// -----

func.func @axis_out_of_range() -> tensor<2xi32> {
  // expected-error @+1 {{'volta.iota' iota: axis 1 is out of range for rank 1}}
  %0 = "volta.iota"() {shape = array<i64: 2>, axis = 1 : i64, dtype = i32} : () -> tensor<2xi32>
  return %0 : tensor<2xi32>
}

// -----

// A splat takes no more memory than its element.

// CHECK-LABEL: func.func @large
// LINALG-LABEL: func.func @large
// LINALG: arith.constant dense<3.000000e+00> : tensor<1000000000000xbf16>
func.func @large() -> tensor<1000000000000xbf16> {
  %0 = "volta.constant"() {value = dense<3.0> : tensor<1000000000000xbf16>} : () -> tensor<1000000000000xbf16>
  return %0 : tensor<1000000000000xbf16>
}

// -----

func.func @no_dtype() {
  // expected-error @below {{'volta.iota' f8E4M3FN is no dtype of Volta's}}
  %0 = "volta.iota"() {shape = array<i64: 2>, axis = 0 : i64, dtype = f8E4M3FN} : () -> tensor<2xf32>
  return
}

// -----

func.func @encoded(%x: tensor<2xf32, 1 : i64>) -> tensor<2xf32, 1 : i64> {
  // expected-error @below {{'volta.neg' expected a statically shaped tensor of a Volta dtype, got tensor<2xf32, 1 : i64>}}
  %0 = "volta.neg"(%x) : (tensor<2xf32, 1 : i64>) -> tensor<2xf32, 1 : i64>
  return %0 : tensor<2xf32, 1 : i64>
}
