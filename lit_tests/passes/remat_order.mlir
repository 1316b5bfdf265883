// A product's operand (%12) is stored for the product, which runs late, and computed again by an early kernel, whose
// results it belongs to once copies wait for it: what is computed again must not come before it.

// RUN: volta-opt %s --volta-remat="budget=0" | filecheck %s

// CHECK-LABEL: func.func @program
// CHECK-DAG: volta.after
// CHECK-DAG: volta.recomputed
// CHECK-DAG: "volta.dot_general"
func.func @program(%arg0: tensor<1xbf16>) -> (tensor<1xbf16>, tensor<1xbf16>, tensor<1x2xi8>, tensor<1xi8>) {
  %0 = "volta.cumsum"(%arg0) {axis = 0 : i64, reverse = false} : (tensor<1xbf16>) -> tensor<1xbf16>
  %1 = "volta.convert"(%0) {dtype = i32} : (tensor<1xbf16>) -> tensor<1xi32>
  %2 = "volta.broadcast_in_dim"(%1) {dims = array<i64: 0>, shape = array<i64: 3>} : (tensor<1xi32>) -> tensor<3xi32>
  %3 = "volta.broadcast_in_dim"(%arg0) {dims = array<i64: 0>, shape = array<i64: 3>} : (tensor<1xbf16>) -> tensor<3xbf16>
  %4 = "volta.scatter_add"(%arg0, %2, %3) {axis = 0 : i64, batch_axes = array<i64>} : (tensor<1xbf16>, tensor<3xi32>, tensor<3xbf16>) -> tensor<1xbf16>
  %5 = "volta.transpose"(%0) {permutation = array<i64: 0>} : (tensor<1xbf16>) -> tensor<1xbf16>
  %6 = "volta.transpose"(%0) {permutation = array<i64: 0>} : (tensor<1xbf16>) -> tensor<1xbf16>
  %7 = "volta.convert"(%arg0) {dtype = i8} : (tensor<1xbf16>) -> tensor<1xi8>
  %8 = "volta.broadcast_in_dim"(%7) {dims = array<i64: 1>, shape = array<i64: 1, 2>} : (tensor<1xi8>) -> tensor<1x2xi8>
  %9 = "volta.convert"(%5) {dtype = i8} : (tensor<1xbf16>) -> tensor<1xi8>
  %10 = "volta.neg"(%8) : (tensor<1x2xi8>) -> tensor<1x2xi8>
  %11 = "volta.convert"(%arg0) {dtype = i8} : (tensor<1xbf16>) -> tensor<1xi8>
  %12 = "volta.broadcast_in_dim"(%11) {dims = array<i64: 1>, shape = array<i64: 1, 1>} : (tensor<1xi8>) -> tensor<1x1xi8>
  %13 = "volta.dot_general"(%9, %12) {dtype = i8, lhs_batch = array<i64>, lhs_contract = array<i64: 0>, rhs_batch = array<i64>, rhs_contract = array<i64: 0>} : (tensor<1xi8>, tensor<1x1xi8>) -> tensor<1xi8>
  return %4, %6, %10, %13 : tensor<1xbf16>, tensor<1xbf16>, tensor<1x2xi8>, tensor<1xi8>
}
