// A barrier survives the passes, and IREE gets one of its own.

// RUN: volta-opt %s --cse --canonicalize --volta-simplify | filecheck %s
// RUN: volta-opt %s --cse --convert-volta-to-linalg | filecheck %s --check-prefix=LOWERED

// CHECK: %[[A:.*]] = "volta.optimization_barrier"(%[[X:.*]])
// CHECK: %[[B:.*]] = "volta.optimization_barrier"(%[[X]])
// CHECK: return %[[A]], %[[B]]

// LOWERED: %[[A:.*]] = "util.optimization_barrier"(%[[X:.*]]) : (tensor<3xf32>) -> tensor<3xf32>
// LOWERED: %[[B:.*]] = "util.optimization_barrier"(%[[X]])
// LOWERED: return %[[A]], %[[B]]
func.func @twice(%x: tensor<3xf32>) -> (tensor<3xf32>, tensor<3xf32>) {
  %0 = "volta.optimization_barrier"(%x) : (tensor<3xf32>) -> tensor<3xf32>
  %1 = "volta.optimization_barrier"(%x) : (tensor<3xf32>) -> tensor<3xf32>
  return %0, %1 : tensor<3xf32>, tensor<3xf32>
}

// CHECK-LABEL: func.func @constant
// CHECK: %[[C:.*]] = "volta.full"
// CHECK: %[[D:.*]] = "volta.optimization_barrier"(%[[C]])
// CHECK: return %[[D]]
func.func @constant() -> tensor<3xf32> {
  %0 = "volta.full"() {value = dense<1.0> : tensor<f32>, shape = array<i64: 3>} : () -> tensor<3xf32>
  %1 = "volta.optimization_barrier"(%0) : (tensor<3xf32>) -> tensor<3xf32>
  return %1 : tensor<3xf32>
}

// Elements are selected by the bits of the second operand, so that IREE keeps the order.

// LOWERED-LABEL: func.func @after
// LOWERED-SAME: (%[[X:.*]]: tensor<3xi32>, %[[T:.*]]: tensor<f32>)
// LOWERED: linalg.generic {{.*}} ins(%[[X]], %[[T]] : tensor<3xi32>, tensor<f32>)
// LOWERED: arith.bitcast %{{.*}} : f32 to i32
// LOWERED: arith.select
func.func @after(%x: tensor<3xi32>, %t: tensor<f32>) -> tensor<3xi32> {
  %0 = "volta.after"(%x, %t) : (tensor<3xi32>, tensor<f32>) -> tensor<3xi32>
  return %0 : tensor<3xi32>
}
