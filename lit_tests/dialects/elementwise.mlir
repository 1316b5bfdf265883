// Elementwise ops: text round trip, what the verifiers reject, and one linalg.generic each.

// RUN: volta-opt %s --split-input-file --verify-diagnostics | volta-opt --split-input-file | filecheck %s
// RUN: volta-opt %s --split-input-file --verify-diagnostics --convert-volta-to-linalg | filecheck %s --check-prefix=LINALG

// CHECK-LABEL: func.func @unary
// CHECK: "volta.exp"(%{{.*}}) : (tensor<2x3xf32>) -> tensor<2x3xf32>
// CHECK: "volta.is_finite"(%{{.*}}) : (tensor<2x3xf32>) -> tensor<2x3xi1>
// CHECK: "volta.not"(%{{.*}}) : (tensor<2x3xi1>) -> tensor<2x3xi1>
// LINALG-LABEL: func.func @unary
// LINALG: linalg.generic {{{.*}}iterator_types = ["parallel", "parallel"]}
// LINALG: math.exp
// LINALG: arith.cmpf olt
// LINALG: arith.xori
// LINALG-NOT: volta.
func.func @unary(%x: tensor<2x3xf32>) -> tensor<2x3xi1> {
  %0 = "volta.exp"(%x) : (tensor<2x3xf32>) -> tensor<2x3xf32>
  %1 = "volta.is_finite"(%0) : (tensor<2x3xf32>) -> tensor<2x3xi1>
  %2 = "volta.not"(%1) : (tensor<2x3xi1>) -> tensor<2x3xi1>
  return %2 : tensor<2x3xi1>
}

// -----

// CHECK-LABEL: func.func @attributes
// CHECK: "volta.compare"(%{{.*}}, %{{.*}}) {direction = "lt"} : (tensor<4xui8>, tensor<4xui8>) -> tensor<4xi1>
// CHECK: "volta.convert"(%{{.*}}) {dtype = bf16} : (tensor<4xui8>) -> tensor<4xbf16>
// CHECK: "volta.bitcast"(%{{.*}}) {dtype = i16} : (tensor<4xbf16>) -> tensor<4xi16>
// LINALG-LABEL: func.func @attributes
// LINALG: arith.cmpi ult
// LINALG: arith.uitofp {{.*}} : i8 to f32
// LINALG: arith.bitcast {{.*}} : f32 to i32
// LINALG: arith.bitcast {{.*}} : i16 to bf16
// LINALG: arith.bitcast {{.*}} : bf16 to i16
func.func @attributes(%x: tensor<4xui8>, %y: tensor<4xui8>) -> (tensor<4xi1>, tensor<4xi16>) {
  %0 = "volta.compare"(%x, %y) {direction = "lt"} : (tensor<4xui8>, tensor<4xui8>) -> tensor<4xi1>
  %1 = "volta.convert"(%x) {dtype = bf16} : (tensor<4xui8>) -> tensor<4xbf16>
  %2 = "volta.bitcast"(%1) {dtype = i16} : (tensor<4xbf16>) -> tensor<4xi16>
  return %0, %2 : tensor<4xi1>, tensor<4xi16>
}

// -----

// Division never sees a divisor for which arith leaves the result undefined.
// LINALG-LABEL: func.func @division
// LINALG: %[[ZERO:.*]] = arith.cmpi eq, %[[Y:.*]], %{{.*}} : i32
// LINALG: %[[UNSAFE:.*]] = arith.ori %[[ZERO]]
// LINALG: %[[SAFE:.*]] = arith.select %[[UNSAFE]], %{{.*}}, %[[Y]]
// LINALG: arith.divsi %{{.*}}, %[[SAFE]]
// LINALG: arith.select %[[ZERO]]
// LINALG: arith.remui
func.func @division(%x: tensor<4xi32>, %y: tensor<4xi32>, %u: tensor<4xui8>) -> (tensor<4xi32>, tensor<4xui8>) {
  %0 = "volta.div"(%x, %y) : (tensor<4xi32>, tensor<4xi32>) -> tensor<4xi32>
  %1 = "volta.rem"(%u, %u) : (tensor<4xui8>, tensor<4xui8>) -> tensor<4xui8>
  return %0, %1 : tensor<4xi32>, tensor<4xui8>
}

// -----

// Nor do shifts see a count beyond the width.
// LINALG-LABEL: func.func @shift
// LINALG: %[[OVER:.*]] = arith.cmpi uge
// LINALG: %[[COUNT:.*]] = arith.select %[[OVER]]
// LINALG: arith.shli %{{.*}}, %[[COUNT]]
// LINALG: arith.minui
// LINALG: arith.shrsi
func.func @shift(%x: tensor<4xi32>, %y: tensor<4xi32>) -> (tensor<4xi32>, tensor<4xi32>) {
  %0 = "volta.shift_left"(%x, %y) : (tensor<4xi32>, tensor<4xi32>) -> tensor<4xi32>
  %1 = "volta.shift_right_arithmetic"(%x, %y) : (tensor<4xi32>, tensor<4xi32>) -> tensor<4xi32>
  return %0, %1 : tensor<4xi32>, tensor<4xi32>
}

// -----

// Mathematical functions of half precision run in float32.
// LINALG-LABEL: func.func @half
// LINALG: arith.extf {{.*}} : f16 to f32
// LINALG: math.tanh {{.*}} : f32
// LINALG: arith.truncf {{.*}} : f32 to f16
func.func @half(%x: tensor<4xf16>) -> tensor<4xf16> {
  %0 = "volta.tanh"(%x) : (tensor<4xf16>) -> tensor<4xf16>
  return %0 : tensor<4xf16>
}

// -----

func.func @shapes_differ(%x: tensor<4xf32>, %y: tensor<5xf32>) -> tensor<4xf32> {
  // expected-error @below {{'volta.add' operands must agree in shape and dtype, got float32[4] and float32[5]}}
  %0 = "volta.add"(%x, %y) : (tensor<4xf32>, tensor<5xf32>) -> tensor<4xf32>
  return %0 : tensor<4xf32>
}

// -----

func.func @dtypes_differ(%x: tensor<4xi32>, %y: tensor<4xui32>) -> tensor<4xi32> {
  // expected-error @below {{'volta.maximum' operands must agree in shape and dtype, got int32[4] and uint32[4]}}
  %0 = "volta.maximum"(%x, %y) : (tensor<4xi32>, tensor<4xui32>) -> tensor<4xi32>
  return %0 : tensor<4xi32>
}

// -----

func.func @integer_sine(%x: tensor<4xi32>) -> tensor<4xi32> {
  // expected-error @below {{'volta.sin' takes floats, got int32[4]}}
  %0 = "volta.sin"(%x) : (tensor<4xi32>) -> tensor<4xi32>
  return %0 : tensor<4xi32>
}

// -----

func.func @float_shift(%x: tensor<4xf32>) -> tensor<4xf32> {
  // expected-error @below {{'volta.shift_left' takes integers, got float32[4]}}
  %0 = "volta.shift_left"(%x, %x) : (tensor<4xf32>, tensor<4xf32>) -> tensor<4xf32>
  return %0 : tensor<4xf32>
}

// -----

func.func @float_and(%x: tensor<4xf32>) -> tensor<4xf32> {
  // expected-error @below {{'volta.and' takes integers and bool, got float32[4]}}
  %0 = "volta.and"(%x, %x) : (tensor<4xf32>, tensor<4xf32>) -> tensor<4xf32>
  return %0 : tensor<4xf32>
}

// -----

func.func @bool_sum(%x: tensor<4xi1>) -> tensor<4xi1> {
  // expected-error @below {{'volta.add' takes numbers, got bool[4]}}
  %0 = "volta.add"(%x, %x) : (tensor<4xi1>, tensor<4xi1>) -> tensor<4xi1>
  return %0 : tensor<4xi1>
}

// -----

func.func @result_of_is_finite(%x: tensor<4xf32>) -> tensor<4xf32> {
  // expected-error @below {{'volta.is_finite' inferred bool[4], but the result is tensor<4xf32>}}
  %0 = "volta.is_finite"(%x) : (tensor<4xf32>) -> tensor<4xf32>
  return %0 : tensor<4xf32>
}

// -----

func.func @direction(%x: tensor<4xf32>) -> tensor<4xi1> {
  // expected-error @below {{'volta.compare' direction is one of eq, ne, lt, le, gt, ge, got 'less'}}
  %0 = "volta.compare"(%x, %x) {direction = "less"} : (tensor<4xf32>, tensor<4xf32>) -> tensor<4xi1>
  return %0 : tensor<4xi1>
}

// -----

func.func @predicate(%p: tensor<4xi32>, %x: tensor<4xf32>) -> tensor<4xf32> {
  // expected-error @below {{'volta.select' the predicate is bool, got int32[4]}}
  %0 = "volta.select"(%p, %x, %x) : (tensor<4xi32>, tensor<4xf32>, tensor<4xf32>) -> tensor<4xf32>
  return %0 : tensor<4xf32>
}

// -----

func.func @branches(%p: tensor<4xi1>, %x: tensor<4xf32>, %y: tensor<4xf64>) -> tensor<4xf32> {
  // expected-error @below {{'volta.select' the branches must agree in shape and dtype, got float32[4] and float64[4]}}
  %0 = "volta.select"(%p, %x, %y) : (tensor<4xi1>, tensor<4xf32>, tensor<4xf64>) -> tensor<4xf32>
  return %0 : tensor<4xf32>
}

// -----

func.func @predicate_shape(%p: tensor<i1>, %x: tensor<4xf32>) -> tensor<4xf32> {
  // expected-error @below {{'volta.select' the predicate has shape (), the branches (4,)}}
  %0 = "volta.select"(%p, %x, %x) : (tensor<i1>, tensor<4xf32>, tensor<4xf32>) -> tensor<4xf32>
  return %0 : tensor<4xf32>
}

// -----

func.func @widths(%x: tensor<4xf32>) -> tensor<4xi16> {
  // expected-error @below {{'volta.bitcast' can't take the bits of float32[4] as int16: the widths differ}}
  %0 = "volta.bitcast"(%x) {dtype = i16} : (tensor<4xf32>) -> tensor<4xi16>
  return %0 : tensor<4xi16>
}

// -----

func.func @converted(%x: tensor<4xf32>) -> tensor<4xi16> {
  // expected-error @below {{'volta.convert' inferred int32[4], but the result is tensor<4xi16>}}
  %0 = "volta.convert"(%x) {dtype = i32} : (tensor<4xf32>) -> tensor<4xi16>
  return %0 : tensor<4xi16>
}

// -----

func.func @bounds(%x: tensor<4xf32>, %low: tensor<f32>) -> tensor<4xf32> {
  // expected-error @below {{'volta.clamp' operands must agree in shape and dtype, got float32[] and float32[4]}}
  %0 = "volta.clamp"(%low, %x, %x) : (tensor<f32>, tensor<4xf32>, tensor<4xf32>) -> tensor<4xf32>
  return %0 : tensor<4xf32>
}
