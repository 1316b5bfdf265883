// Values that the backward pass needs are computed again, so that a budget is met.

// RUN: volta-opt %s --volta-remat | filecheck %s --check-prefix=OFF
// RUN: volta-opt %s --volta-remat="budget=0" | filecheck %s
// RUN: volta-opt %s --volta-remat="budget=5000000" | filecheck %s --check-prefix=OFF
// RUN: not volta-opt %s --volta-remat="budget=100000" 2>&1 | filecheck %s --check-prefix=ERROR

// Two layers, forward and backward. Without a budget, or with one that is large enough, nothing changes.

// OFF-NOT: volta.recomputed
// OFF-NOT: volta.after

// ERROR: error: @step needs {{[0-9]+}} bytes ({{.*}}) at least, which is more than the budget of 97.7 KiB

// The first activation is dropped after the forward pass. It comes again behind the gradient of the second, and the
// original is read by the forward pass only.

// CHECK-LABEL: func.func @step
// CHECK-SAME: (%[[X:.*]]: tensor<1024x64xf32>, %[[W:.*]]: tensor<64x64xf32>)
// CHECK: %[[A0:.*]] = "volta.dot_general"(%[[X]], %[[W]])
// CHECK: %[[A1:.*]] = "volta.tanh"(%[[A0]])
// CHECK: %[[AFTER:.*]] = "volta.after"(%[[W]], %{{.*}})
// CHECK-NEXT: %[[B0:.*]] = "volta.dot_general"(%[[X]], %[[AFTER]]) {{.*}}volta.recomputed
// CHECK: %[[B1:.*]] = "volta.tanh"(%[[B0]]) {volta.recomputed}
func.func @step(%x: tensor<1024x64xf32>, %w: tensor<64x64xf32>) -> (tensor<64x64xf32>) {
  %a0 = "volta.dot_general"(%x, %w) {lhs_batch = array<i64>, rhs_batch = array<i64>, lhs_contract = array<i64: 1>, rhs_contract = array<i64: 0>} : (tensor<1024x64xf32>, tensor<64x64xf32>) -> tensor<1024x64xf32>
  %a1 = "volta.tanh"(%a0) : (tensor<1024x64xf32>) -> tensor<1024x64xf32>
  return %w : tensor<64x64xf32>
}
