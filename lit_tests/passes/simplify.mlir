// Every rule where it applies, and next to it a case where it must not: IEEE results stay the same to the bit.

// RUN: volta-opt %s --volta-simplify --split-input-file | filecheck %s
// RUN: volta-opt %s --volta-simplify=max-iterations=0 --split-input-file | filecheck %s --check-prefix=NONE

// CHECK-LABEL: func.func @identities
// CHECK-SAME: (%[[X:.*]]: tensor<2xf32>, %[[N:.*]]: tensor<2xi32>)
// CHECK-NEXT: return %[[X]], %[[X]], %[[X]], %[[X]], %[[X]], %[[X]], %[[X]], %[[N]], %[[N]], %[[N]] :
func.func @identities(%x: tensor<2xf32>, %n: tensor<2xi32>) -> (
    tensor<2xf32>, tensor<2xf32>, tensor<2xf32>, tensor<2xf32>, tensor<2xf32>, tensor<2xf32>, tensor<2xf32>,
    tensor<2xi32>, tensor<2xi32>, tensor<2xi32>) {
  %minus_zero = "volta.full"() {shape = array<i64: 2>, value = dense<-0.0> : tensor<f32>} : () -> tensor<2xf32>
  %zero = "volta.constant"() {value = dense<0.0> : tensor<2xf32>} : () -> tensor<2xf32>
  %one = "volta.full"() {shape = array<i64: 2>, value = dense<1.0> : tensor<f32>} : () -> tensor<2xf32>
  %izero = "volta.full"() {shape = array<i64: 2>, value = dense<0> : tensor<i32>} : () -> tensor<2xi32>
  %ione = "volta.full"() {shape = array<i64: 2>, value = dense<1> : tensor<i32>} : () -> tensor<2xi32>
  %0 = "volta.add"(%x, %minus_zero) : (tensor<2xf32>, tensor<2xf32>) -> tensor<2xf32>
  %1 = "volta.add"(%minus_zero, %x) : (tensor<2xf32>, tensor<2xf32>) -> tensor<2xf32>
  %2 = "volta.sub"(%x, %zero) : (tensor<2xf32>, tensor<2xf32>) -> tensor<2xf32>
  %3 = "volta.mul"(%x, %one) : (tensor<2xf32>, tensor<2xf32>) -> tensor<2xf32>
  %4 = "volta.mul"(%one, %x) : (tensor<2xf32>, tensor<2xf32>) -> tensor<2xf32>
  %5 = "volta.convert"(%x) {dtype = f32} : (tensor<2xf32>) -> tensor<2xf32>
  %6 = "volta.stop_gradient"(%x) : (tensor<2xf32>) -> tensor<2xf32>
  %7 = "volta.add"(%n, %izero) : (tensor<2xi32>, tensor<2xi32>) -> tensor<2xi32>
  %8 = "volta.sub"(%n, %izero) : (tensor<2xi32>, tensor<2xi32>) -> tensor<2xi32>
  %9 = "volta.mul"(%ione, %n) : (tensor<2xi32>, tensor<2xi32>) -> tensor<2xi32>
  return %0, %1, %2, %3, %4, %5, %6, %7, %8, %9 : tensor<2xf32>, tensor<2xf32>, tensor<2xf32>, tensor<2xf32>,
    tensor<2xf32>, tensor<2xf32>, tensor<2xf32>, tensor<2xi32>, tensor<2xi32>, tensor<2xi32>
}

// -----

// -0.0 + 0.0 is 0.0, -0.0 - -0.0 is 0.0, infinity * 0.0 is NaN, 0.0 - x is not -x where x is 0.0.

// CHECK-LABEL: func.func @no_identities
// CHECK: "volta.add"
// CHECK: "volta.sub"
// CHECK: "volta.sub"
// CHECK: "volta.mul"
// CHECK: "volta.mul"
// CHECK: "volta.convert"
func.func @no_identities(%x: tensor<2xf32>) -> (
    tensor<2xf32>, tensor<2xf32>, tensor<2xf32>, tensor<2xf32>, tensor<2xf32>, tensor<2xf16>) {
  %minus_zero = "volta.full"() {shape = array<i64: 2>, value = dense<-0.0> : tensor<f32>} : () -> tensor<2xf32>
  %zero = "volta.full"() {shape = array<i64: 2>, value = dense<0.0> : tensor<f32>} : () -> tensor<2xf32>
  %mixed = "volta.constant"() {value = dense<[1.0, 2.0]> : tensor<2xf32>} : () -> tensor<2xf32>
  %0 = "volta.add"(%x, %zero) : (tensor<2xf32>, tensor<2xf32>) -> tensor<2xf32>
  %1 = "volta.sub"(%x, %minus_zero) : (tensor<2xf32>, tensor<2xf32>) -> tensor<2xf32>
  %2 = "volta.sub"(%zero, %x) : (tensor<2xf32>, tensor<2xf32>) -> tensor<2xf32>
  %3 = "volta.mul"(%x, %zero) : (tensor<2xf32>, tensor<2xf32>) -> tensor<2xf32>
  %4 = "volta.mul"(%x, %mixed) : (tensor<2xf32>, tensor<2xf32>) -> tensor<2xf32>
  %5 = "volta.convert"(%x) {dtype = f16} : (tensor<2xf32>) -> tensor<2xf16>
  return %0, %1, %2, %3, %4, %5 : tensor<2xf32>, tensor<2xf32>, tensor<2xf32>, tensor<2xf32>, tensor<2xf32>, tensor<2xf16>
}

// -----

// CHECK-LABEL: func.func @same_operands
// CHECK-SAME: (%[[X:.*]]: tensor<2xf32>, %[[N:.*]]: tensor<2xi32>, %[[U:.*]]: tensor<2xui32>)
// CHECK-DAG: %[[ZERO:.*]] = "volta.full"() {shape = array<i64: 2>, value = dense<0> : tensor<i32>}
// CHECK-DAG: %[[NO:.*]] = "volta.full"() {shape = array<i64: 2>, value = dense<false> : tensor<i1>}
// CHECK-DAG: %[[YES:.*]] = "volta.full"() {shape = array<i64: 2>, value = dense<true> : tensor<i1>}
// CHECK: return %[[X]], %[[N]], %[[ZERO]], %[[NO]], %[[YES]], %[[U]], %[[X]] :
func.func @same_operands(%x: tensor<2xf32>, %n: tensor<2xi32>, %u: tensor<2xui32>) -> (
    tensor<2xf32>, tensor<2xi32>, tensor<2xi32>, tensor<2xi1>, tensor<2xi1>, tensor<2xui32>, tensor<2xf32>) {
  %0 = "volta.maximum"(%x, %x) : (tensor<2xf32>, tensor<2xf32>) -> tensor<2xf32>
  %1 = "volta.and"(%n, %n) : (tensor<2xi32>, tensor<2xi32>) -> tensor<2xi32>
  %2 = "volta.sub"(%n, %n) : (tensor<2xi32>, tensor<2xi32>) -> tensor<2xi32>
  %3 = "volta.compare"(%n, %n) {direction = "ne"} : (tensor<2xi32>, tensor<2xi32>) -> tensor<2xi1>
  %4 = "volta.compare"(%u, %u) {direction = "le"} : (tensor<2xui32>, tensor<2xui32>) -> tensor<2xi1>
  %5 = "volta.abs"(%u) : (tensor<2xui32>) -> tensor<2xui32>
  %6 = "volta.reverse"(%x) {axes = array<i64>} : (tensor<2xf32>) -> tensor<2xf32>
  return %0, %1, %2, %3, %4, %5, %6 : tensor<2xf32>, tensor<2xi32>, tensor<2xi32>, tensor<2xi1>, tensor<2xi1>,
    tensor<2xui32>, tensor<2xf32>
}

// -----

// NaN is unequal to itself, and infinity less infinity is NaN.

// CHECK-LABEL: func.func @not_of_floats
// CHECK: "volta.sub"
// CHECK: "volta.compare"
func.func @not_of_floats(%x: tensor<2xf32>) -> (tensor<2xf32>, tensor<2xi1>) {
  %0 = "volta.sub"(%x, %x) : (tensor<2xf32>, tensor<2xf32>) -> tensor<2xf32>
  %1 = "volta.compare"(%x, %x) {direction = "ne"} : (tensor<2xf32>, tensor<2xf32>) -> tensor<2xi1>
  return %0, %1 : tensor<2xf32>, tensor<2xi1>
}

// -----

// CHECK-LABEL: func.func @negations
// CHECK-SAME: (%[[X:.*]]: tensor<2xf32>)
// CHECK-NEXT: %[[NEG:.*]] = "volta.neg"(%[[X]])
// CHECK-NEXT: return %[[X]], %[[NEG]]
func.func @negations(%x: tensor<2xf32>) -> (tensor<2xf32>, tensor<2xf32>) {
  %0 = "volta.neg"(%x) : (tensor<2xf32>) -> tensor<2xf32>
  %1 = "volta.neg"(%0) : (tensor<2xf32>) -> tensor<2xf32>
  %2 = "volta.neg"(%1) : (tensor<2xf32>) -> tensor<2xf32>
  return %1, %2 : tensor<2xf32>, tensor<2xf32>
}

// -----

// CHECK-LABEL: func.func @selections
// CHECK-SAME: (%[[P:.*]]: tensor<2xi1>, %[[X:.*]]: tensor<2xf32>, %[[Y:.*]]: tensor<2xf32>)
// CHECK-NEXT: %[[MIXED:.*]] = "volta.constant"
// CHECK-NEXT: %[[A:.*]] = "volta.select"(%[[MIXED]], %[[X]], %[[Y]])
// CHECK-NEXT: %[[B:.*]] = "volta.select"(%[[P]], %[[X]], %[[Y]])
// CHECK-NEXT: return %[[X]], %[[Y]], %[[X]], %[[A]], %[[B]]
func.func @selections(%p: tensor<2xi1>, %x: tensor<2xf32>, %y: tensor<2xf32>) -> (
    tensor<2xf32>, tensor<2xf32>, tensor<2xf32>, tensor<2xf32>, tensor<2xf32>) {
  %true = "volta.full"() {shape = array<i64: 2>, value = dense<true> : tensor<i1>} : () -> tensor<2xi1>
  %false = "volta.constant"() {value = dense<false> : tensor<2xi1>} : () -> tensor<2xi1>
  %mixed = "volta.constant"() {value = dense<[true, false]> : tensor<2xi1>} : () -> tensor<2xi1>
  %0 = "volta.select"(%true, %x, %y) : (tensor<2xi1>, tensor<2xf32>, tensor<2xf32>) -> tensor<2xf32>
  %1 = "volta.select"(%false, %x, %y) : (tensor<2xi1>, tensor<2xf32>, tensor<2xf32>) -> tensor<2xf32>
  %2 = "volta.select"(%p, %x, %x) : (tensor<2xi1>, tensor<2xf32>, tensor<2xf32>) -> tensor<2xf32>
  %3 = "volta.select"(%mixed, %x, %y) : (tensor<2xi1>, tensor<2xf32>, tensor<2xf32>) -> tensor<2xf32>
  %4 = "volta.select"(%p, %x, %y) : (tensor<2xi1>, tensor<2xf32>, tensor<2xf32>) -> tensor<2xf32>
  return %0, %1, %2, %3, %4 : tensor<2xf32>, tensor<2xf32>, tensor<2xf32>, tensor<2xf32>, tensor<2xf32>
}

// -----

// Movements that move nothing, and two in a row.

// CHECK-LABEL: func.func @movements
// CHECK-SAME: (%[[X:.*]]: tensor<2x3xf32>, %[[C:.*]]: tensor<1x3xf32>)
// CHECK-NEXT: %[[RESHAPED:.*]] = "volta.reshape"(%[[X]]) {shape = array<i64: 6>}
// CHECK-NEXT: %[[COLUMN:.*]] = "volta.reshape"(%[[C]]) {shape = array<i64: 3, 1>}
// CHECK-NEXT: %[[TRANSPOSED:.*]] = "volta.transpose"(%[[X]]) {permutation = array<i64: 1, 0>}
// CHECK-NEXT: %[[BROADCAST:.*]] = "volta.broadcast_in_dim"(%[[C]]) {dims = array<i64: 2, 3>, shape = array<i64: 5, 4, 2, 3>}
// CHECK-NEXT: return %[[X]], %[[RESHAPED]], %[[X]], %[[X]], %[[COLUMN]], %[[X]], %[[BROADCAST]], %[[TRANSPOSED]]
// NONE-LABEL: func.func @movements
// NONE: "volta.reshape"(%{{.*}}) {shape = array<i64: 2, 3>} : (tensor<2x3xf32>) -> tensor<2x3xf32>
func.func @movements(%x: tensor<2x3xf32>, %c: tensor<1x3xf32>) -> (
    tensor<2x3xf32>, tensor<6xf32>, tensor<2x3xf32>, tensor<2x3xf32>, tensor<3x1xf32>, tensor<2x3xf32>,
    tensor<5x4x2x3xf32>, tensor<3x2xf32>) {
  %0 = "volta.reshape"(%x) {shape = array<i64: 2, 3>} : (tensor<2x3xf32>) -> tensor<2x3xf32>
  %1 = "volta.reshape"(%x) {shape = array<i64: 3, 2>} : (tensor<2x3xf32>) -> tensor<3x2xf32>
  %2 = "volta.reshape"(%1) {shape = array<i64: 6>} : (tensor<3x2xf32>) -> tensor<6xf32>
  %3 = "volta.reshape"(%2) {shape = array<i64: 2, 3>} : (tensor<6xf32>) -> tensor<2x3xf32>
  %4 = "volta.transpose"(%x) {permutation = array<i64: 0, 1>} : (tensor<2x3xf32>) -> tensor<2x3xf32>
  %5 = "volta.transpose"(%c) {permutation = array<i64: 1, 0>} : (tensor<1x3xf32>) -> tensor<3x1xf32>
  %6 = "volta.transpose"(%x) {permutation = array<i64: 1, 0>} : (tensor<2x3xf32>) -> tensor<3x2xf32>
  %7 = "volta.transpose"(%6) {permutation = array<i64: 1, 0>} : (tensor<3x2xf32>) -> tensor<2x3xf32>
  %8 = "volta.broadcast_in_dim"(%c) {dims = array<i64: 1, 2>, shape = array<i64: 4, 2, 3>} : (tensor<1x3xf32>) -> tensor<4x2x3xf32>
  %9 = "volta.broadcast_in_dim"(%8) {dims = array<i64: 1, 2, 3>, shape = array<i64: 5, 4, 2, 3>} : (tensor<4x2x3xf32>) -> tensor<5x4x2x3xf32>
  return %0, %2, %3, %4, %5, %7, %9, %6 : tensor<2x3xf32>, tensor<6xf32>, tensor<2x3xf32>, tensor<2x3xf32>,
    tensor<3x1xf32>, tensor<2x3xf32>, tensor<5x4x2x3xf32>, tensor<3x2xf32>
}

// -----

// Splats stay splats; small constants are computed, an empty one and a large one are left alone.

// CHECK-LABEL: func.func @constants
// CHECK-DAG: %[[SPLAT:.*]] = "volta.full"() {shape = array<i64: 300, 2>, value = dense<6.000000e+00> : tensor<f32>}
// CHECK-DAG: %[[FOLDED:.*]] = "volta.constant"() {value = dense<[4.000000e+00, 6.000000e+00]> : tensor<2xf32>}
// CHECK-DAG: %[[PARTS:.*]] = "volta.constant"() {value = dense<[3.000000e+00, 1.000000e+00, 2.000000e+00]>
// CHECK-DAG: "volta.neg"(%{{.*}}) : (tensor<300xi32>)
// CHECK: return
func.func @constants() -> (tensor<300x2xf32>, tensor<2xf32>, tensor<3xf32>, tensor<300xi32>, tensor<0xf32>) {
  %two = "volta.full"() {shape = array<i64: 2, 300>, value = dense<2.0> : tensor<f32>} : () -> tensor<2x300xf32>
  %three = "volta.full"() {shape = array<i64>, value = dense<3.0> : tensor<f32>} : () -> tensor<f32>
  %threes = "volta.broadcast_in_dim"(%three) {dims = array<i64>, shape = array<i64: 2, 300>} : (tensor<f32>) -> tensor<2x300xf32>
  %0 = "volta.mul"(%two, %threes) : (tensor<2x300xf32>, tensor<2x300xf32>) -> tensor<2x300xf32>
  %1 = "volta.transpose"(%0) {permutation = array<i64: 1, 0>} : (tensor<2x300xf32>) -> tensor<300x2xf32>
  %c = "volta.constant"() {value = dense<[1.0, 2.0]> : tensor<2xf32>} : () -> tensor<2xf32>
  %three2 = "volta.full"() {shape = array<i64: 2>, value = dense<3.0> : tensor<f32>} : () -> tensor<2xf32>
  %odd = "volta.constant"() {value = dense<[3.0, 4.0]> : tensor<2xf32>} : () -> tensor<2xf32>
  %2 = "volta.add"(%c, %odd) : (tensor<2xf32>, tensor<2xf32>) -> tensor<2xf32>
  %three1 = "volta.reshape"(%three) {shape = array<i64: 1>} : (tensor<f32>) -> tensor<1xf32>
  %3 = "volta.concatenate"(%three1, %c) {axis = 0 : i64} : (tensor<1xf32>, tensor<2xf32>) -> tensor<3xf32>
  %large = "volta.iota"() {axis = 0 : i64, dtype = i32, shape = array<i64: 300>} : () -> tensor<300xi32>
  %4 = "volta.neg"(%large) : (tensor<300xi32>) -> tensor<300xi32>
  %empty = "volta.constant"() {value = dense<> : tensor<0xf32>} : () -> tensor<0xf32>
  %5 = "volta.neg"(%empty) : (tensor<0xf32>) -> tensor<0xf32>
  return %1, %2, %3, %4, %5 : tensor<300x2xf32>, tensor<2xf32>, tensor<3xf32>, tensor<300xi32>, tensor<0xf32>
}

// -----

// Products take transposed operands as they are, where the free axes keep their order.

// CHECK-LABEL: func.func @products
// CHECK-SAME: (%[[A:.*]]: tensor<4x2xf32>, %[[B:.*]]: tensor<4x3xf32>)
// CHECK-NEXT: %[[ATB:.*]] = "volta.dot_general"(%[[A]], %[[B]])
// CHECK-SAME: lhs_contract = array<i64: 0>
// CHECK-SAME: rhs_contract = array<i64: 0>
// CHECK-NEXT: %[[BTA:.*]] = "volta.dot_general"(%[[B]], %[[A]])
// CHECK-SAME: -> tensor<3x2xf32>
// CHECK-NEXT: return %[[ATB]], %[[BTA]]
func.func @products(%a: tensor<4x2xf32>, %b: tensor<4x3xf32>) -> (tensor<2x3xf32>, tensor<3x2xf32>) {
  %t = "volta.transpose"(%a) {permutation = array<i64: 1, 0>} : (tensor<4x2xf32>) -> tensor<2x4xf32>
  %0 = "volta.dot_general"(%t, %b) {dtype = f32, lhs_batch = array<i64>, rhs_batch = array<i64>, lhs_contract = array<i64: 1>, rhs_contract = array<i64: 0>} : (tensor<2x4xf32>, tensor<4x3xf32>) -> tensor<2x3xf32>
  %1 = "volta.dot_general"(%t, %b) {dtype = f32, lhs_batch = array<i64>, rhs_batch = array<i64>, lhs_contract = array<i64: 1>, rhs_contract = array<i64: 0>} : (tensor<2x4xf32>, tensor<4x3xf32>) -> tensor<2x3xf32>
  %2 = "volta.transpose"(%1) {permutation = array<i64: 1, 0>} : (tensor<2x3xf32>) -> tensor<3x2xf32>
  return %0, %2 : tensor<2x3xf32>, tensor<3x2xf32>
}

// -----

// Not where free axes change their order, nor where the untransposed product is needed as well.

// CHECK-LABEL: func.func @other_products
// CHECK: "volta.transpose"
// CHECK: "volta.dot_general"
// CHECK: "volta.dot_general"
// CHECK: "volta.transpose"
func.func @other_products(%a: tensor<2x3x4xf32>, %b: tensor<4x5xf32>) -> (tensor<3x2x5xf32>, tensor<2x3x5xf32>, tensor<5x2x3xf32>) {
  %t = "volta.transpose"(%a) {permutation = array<i64: 1, 0, 2>} : (tensor<2x3x4xf32>) -> tensor<3x2x4xf32>
  %0 = "volta.dot_general"(%t, %b) {dtype = f32, lhs_batch = array<i64>, rhs_batch = array<i64>, lhs_contract = array<i64: 2>, rhs_contract = array<i64: 0>} : (tensor<3x2x4xf32>, tensor<4x5xf32>) -> tensor<3x2x5xf32>
  %1 = "volta.dot_general"(%a, %b) {dtype = f32, lhs_batch = array<i64>, rhs_batch = array<i64>, lhs_contract = array<i64: 2>, rhs_contract = array<i64: 0>} : (tensor<2x3x4xf32>, tensor<4x5xf32>) -> tensor<2x3x5xf32>
  %2 = "volta.transpose"(%1) {permutation = array<i64: 2, 0, 1>} : (tensor<2x3x5xf32>) -> tensor<5x2x3xf32>
  return %0, %1, %2 : tensor<3x2x5xf32>, tensor<2x3x5xf32>, tensor<5x2x3xf32>
}

// -----

// Unused ops and calls go; arguments stay.

// CHECK-LABEL: func.func @dead
// CHECK-SAME: (%[[X:.*]]: tensor<f32>)
// CHECK-NEXT: return %[[X]]
func.func @dead(%x: tensor<f32>) -> tensor<f32> {
  %0 = "volta.neg"(%x) : (tensor<f32>) -> tensor<f32>
  %1 = func.call @f(%0) : (tensor<f32>) -> tensor<f32>
  return %x : tensor<f32>
}

func.func private @f(tensor<f32>) -> tensor<f32>
