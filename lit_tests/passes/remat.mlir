// Values that the backward pass needs are computed again, so that a budget is met.

// RUN: volta-opt %s --volta-remat | filecheck %s --check-prefix=OFF
// RUN: volta-opt %s --volta-remat="budget=5000000" | filecheck %s --check-prefix=OFF
// RUN: volta-opt %s --volta-remat="budget=2000000" | filecheck %s
// RUN: not volta-opt %s --volta-remat="budget=100000" 2>&1 | filecheck %s --check-prefix=ERROR

// Three layers of tanh(x · w), forward and backward. Without a budget, or with one that is large enough, nothing
// changes.

// OFF-NOT: volta.recomputed
// OFF-NOT: volta.after

// ERROR: @step needs {{[0-9]+}} bytes ({{.*}}) at least, which is more than the budget of 97.7 KiB

// The first activation is dropped after the forward pass. It comes again once the gradient of the second one's
// product is there, for which the product waits through both operands: what IREE packs of one that does not wait would be
// taken from the forward pass, and kept. What follows needs no further order.

// CHECK-LABEL: func.func @step
// CHECK-SAME: (%[[X:.*]]: tensor<1024x64xf32>, %[[W:.*]]: tensor<64x64xf32>, %{{.*}}: tensor<1024x64xf32>)
// CHECK-NOT: volta.recomputed
// CHECK: %[[SLICE:.*]] = "volta.slice"(%[[GRADIENT:.*]]) {limit
// CHECK-NEXT: %[[TOKEN:.*]] = "volta.reshape"(%[[SLICE]])
// CHECK-NEXT: %[[LATE_X:.*]] = "volta.after"(%[[X]], %[[TOKEN]])
// CHECK: %[[LATE_W:.*]] = "volta.after"(%[[W]],
// CHECK-NEXT: %[[PRODUCT:.*]] = "volta.dot_general"(%[[LATE_X]], %[[LATE_W]]) {{.*}}volta.recomputed
// CHECK: %[[AGAIN:.*]] = "volta.tanh"(%[[PRODUCT]]) {volta.recomputed}
// CHECK: "volta.dot_general"(%[[AGAIN]], %[[GRADIENT]])

func.func @step(%x: tensor<1024x64xf32>, %w: tensor<64x64xf32>, %ct: tensor<1024x64xf32>) -> tensor<64x64xf32> {
  %p1 = "volta.dot_general"(%x, %w) {lhs_batch = array<i64>, lhs_contract = array<i64: 1>, rhs_batch = array<i64>, rhs_contract = array<i64: 0>, dtype = f32} : (tensor<1024x64xf32>, tensor<64x64xf32>) -> tensor<1024x64xf32>
  %a1 = "volta.tanh"(%p1) : (tensor<1024x64xf32>) -> tensor<1024x64xf32>
  %p2 = "volta.dot_general"(%a1, %w) {lhs_batch = array<i64>, lhs_contract = array<i64: 1>, rhs_batch = array<i64>, rhs_contract = array<i64: 0>, dtype = f32} : (tensor<1024x64xf32>, tensor<64x64xf32>) -> tensor<1024x64xf32>
  %a2 = "volta.tanh"(%p2) : (tensor<1024x64xf32>) -> tensor<1024x64xf32>
  %p3 = "volta.dot_general"(%a2, %w) {lhs_batch = array<i64>, lhs_contract = array<i64: 1>, rhs_batch = array<i64>, rhs_contract = array<i64: 0>, dtype = f32} : (tensor<1024x64xf32>, tensor<64x64xf32>) -> tensor<1024x64xf32>
  %a3 = "volta.tanh"(%p3) : (tensor<1024x64xf32>) -> tensor<1024x64xf32>
  %one = "volta.full"() {shape = array<i64: 1024, 64>, value = dense<1.0> : tensor<f32>} : () -> tensor<1024x64xf32>
  %s3 = "volta.mul"(%a3, %a3) : (tensor<1024x64xf32>, tensor<1024x64xf32>) -> tensor<1024x64xf32>
  %t3 = "volta.sub"(%one, %s3) : (tensor<1024x64xf32>, tensor<1024x64xf32>) -> tensor<1024x64xf32>
  %g3 = "volta.mul"(%ct, %t3) : (tensor<1024x64xf32>, tensor<1024x64xf32>) -> tensor<1024x64xf32>
  %d3 = "volta.dot_general"(%a2, %g3) {lhs_batch = array<i64>, lhs_contract = array<i64: 0>, rhs_batch = array<i64>, rhs_contract = array<i64: 0>, dtype = f32} : (tensor<1024x64xf32>, tensor<1024x64xf32>) -> tensor<64x64xf32>
  %c3 = "volta.dot_general"(%g3, %w) {lhs_batch = array<i64>, lhs_contract = array<i64: 1>, rhs_batch = array<i64>, rhs_contract = array<i64: 1>, dtype = f32} : (tensor<1024x64xf32>, tensor<64x64xf32>) -> tensor<1024x64xf32>
  %s2 = "volta.mul"(%a2, %a2) : (tensor<1024x64xf32>, tensor<1024x64xf32>) -> tensor<1024x64xf32>
  %t2 = "volta.sub"(%one, %s2) : (tensor<1024x64xf32>, tensor<1024x64xf32>) -> tensor<1024x64xf32>
  %g2 = "volta.mul"(%c3, %t2) : (tensor<1024x64xf32>, tensor<1024x64xf32>) -> tensor<1024x64xf32>
  %d2 = "volta.dot_general"(%a1, %g2) {lhs_batch = array<i64>, lhs_contract = array<i64: 0>, rhs_batch = array<i64>, rhs_contract = array<i64: 0>, dtype = f32} : (tensor<1024x64xf32>, tensor<1024x64xf32>) -> tensor<64x64xf32>
  %c2 = "volta.dot_general"(%g2, %w) {lhs_batch = array<i64>, lhs_contract = array<i64: 1>, rhs_batch = array<i64>, rhs_contract = array<i64: 1>, dtype = f32} : (tensor<1024x64xf32>, tensor<64x64xf32>) -> tensor<1024x64xf32>
  %s1 = "volta.mul"(%a1, %a1) : (tensor<1024x64xf32>, tensor<1024x64xf32>) -> tensor<1024x64xf32>
  %t1 = "volta.sub"(%one, %s1) : (tensor<1024x64xf32>, tensor<1024x64xf32>) -> tensor<1024x64xf32>
  %g1 = "volta.mul"(%c2, %t1) : (tensor<1024x64xf32>, tensor<1024x64xf32>) -> tensor<1024x64xf32>
  %d1 = "volta.dot_general"(%x, %g1) {lhs_batch = array<i64>, lhs_contract = array<i64: 0>, rhs_batch = array<i64>, rhs_contract = array<i64: 0>, dtype = f32} : (tensor<1024x64xf32>, tensor<1024x64xf32>) -> tensor<64x64xf32>
  %sum = "volta.add"(%d3, %d2) : (tensor<64x64xf32>, tensor<64x64xf32>) -> tensor<64x64xf32>
  %all = "volta.add"(%sum, %d1) : (tensor<64x64xf32>, tensor<64x64xf32>) -> tensor<64x64xf32>
  return %all : tensor<64x64xf32>
}
