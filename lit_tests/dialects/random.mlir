// Random bits are arithmetic on the element's index, in one linalg.generic.

// RUN: volta-opt %s --split-input-file --verify-diagnostics --convert-volta-to-linalg | filecheck %s

// CHECK-LABEL: func.func @random_bits
// CHECK: linalg.generic {{{.*}}iterator_types = ["parallel", "parallel"]} outs(%{{.*}} : tensor<3x5xi32>)
// CHECK: tensor.extract {{.*}} : tensor<2xi32>
// CHECK: tensor.extract {{.*}} : tensor<i32>
// CHECK: arith.constant 466688986 : i32
// CHECK-COUNT-20: arith.shrui
// CHECK-NOT: arith.shrui
// CHECK-NOT: i64
// CHECK: linalg.yield
func.func @random_bits(%key: tensor<2xui32>, %start: tensor<ui32>) -> tensor<3x5xui32> {
  %0 = "volta.random_bits"(%key, %start) {shape = array<i64: 3, 5>, dtype = ui32}
    : (tensor<2xui32>, tensor<ui32>) -> tensor<3x5xui32>
  return %0 : tensor<3x5xui32>
}

// -----

// CHECK-LABEL: func.func @narrow
// CHECK: arith.trunci {{.*}} : i32 to i8
func.func @narrow(%key: tensor<4x2xui32>, %start: tensor<4xui32>) -> tensor<4x3xui8> {
  %0 = "volta.random_bits"(%key, %start) {shape = array<i64: 3>, dtype = ui8}
    : (tensor<4x2xui32>, tensor<4xui32>) -> tensor<4x3xui8>
  return %0 : tensor<4x3xui8>
}

// -----

// CHECK-LABEL: func.func @wide
// CHECK: arith.extui {{.*}} : i32 to i64
// CHECK: arith.shli {{.*}} : i64
func.func @wide(%key: tensor<2xui32>, %start: tensor<ui32>) -> tensor<3xui64> {
  %0 = "volta.random_bits"(%key, %start) {shape = array<i64: 3>, dtype = ui64}
    : (tensor<2xui32>, tensor<ui32>) -> tensor<3xui64>
  return %0 : tensor<3xui64>
}

// -----

func.func @a_key_is_unsigned(%key: tensor<2xi32>, %start: tensor<ui32>) -> tensor<3xui32> {
  // expected-error @below {{the key and the start are uint32, got int32[2] and uint32[]}}
  %0 = "volta.random_bits"(%key, %start) {shape = array<i64: 3>, dtype = ui32}
    : (tensor<2xi32>, tensor<ui32>) -> tensor<3xui32>
  return %0 : tensor<3xui32>
}

// -----

func.func @a_key_is_two_numbers(%key: tensor<3xui32>, %start: tensor<ui32>) -> tensor<3xui32> {
  // expected-error @below {{a key is two numbers, got uint32[3]}}
  %0 = "volta.random_bits"(%key, %start) {shape = array<i64: 3>, dtype = ui32}
    : (tensor<3xui32>, tensor<ui32>) -> tensor<3xui32>
  return %0 : tensor<3xui32>
}
