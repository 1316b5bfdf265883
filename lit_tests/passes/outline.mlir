// What is repeated becomes one function, and what only looks alike does not.

// RUN: volta-opt %s --volta-outline="min-ops=2" --split-input-file | filecheck %s
// RUN: volta-opt %s --volta-outline="min-ops=2" --convert-volta-to-linalg --split-input-file | filecheck %s --check-prefix=LINALG
// RUN: volta-opt %s --volta-outline --split-input-file | filecheck %s --check-prefix=SHORT

// Three layers. What is outside is an argument: the layer's input and its weights.

// CHECK-LABEL: func.func @layers
// CHECK-SAME: (%[[X:.*]]: tensor<4x4xf32>, %[[U:.*]]: tensor<4x4xf32>, %[[V:.*]]: tensor<4x4xf32>, %[[W:.*]]: tensor<4x4xf32>)
// CHECK-NEXT: %[[A:.*]] = call @layers.repeated(%[[X]], %[[U]])
// CHECK-NEXT: %[[B:.*]] = call @layers.repeated(%[[A]], %[[V]])
// CHECK-NEXT: %[[C:.*]] = call @layers.repeated(%[[B]], %[[W]])
// CHECK-NEXT: return %[[C]]
// CHECK: func.func private @layers.repeated(%[[X:.*]]: tensor<4x4xf32>, %[[W:.*]]: tensor<4x4xf32>) -> tensor<4x4xf32> attributes {noinline} {
// CHECK-NEXT: %[[Y:.*]] = "volta.mul"(%[[X]], %[[W]])
// CHECK-NEXT: %[[Z:.*]] = "volta.tanh"(%[[Y]])
// CHECK-NEXT: return %[[Z]]

// Each is lowered once.

// LINALG-LABEL: func.func @layers
// LINALG-COUNT-3: call @layers.repeated
// LINALG: func.func private @layers.repeated({{.*}} attributes {noinline}
// LINALG: math.tanh
// LINALG-NOT: math.tanh

// SHORT-LABEL: func.func @layers
// SHORT-NOT: call
#mul = loc("model.py":1:0)
#tanh = loc("model.py":2:0)
func.func @layers(%x: tensor<4x4xf32>, %u: tensor<4x4xf32>, %v: tensor<4x4xf32>, %w: tensor<4x4xf32>) -> tensor<4x4xf32> {
  %0 = "volta.mul"(%x, %u) : (tensor<4x4xf32>, tensor<4x4xf32>) -> tensor<4x4xf32> loc(#mul)
  %1 = "volta.tanh"(%0) : (tensor<4x4xf32>) -> tensor<4x4xf32> loc(#tanh)
  %2 = "volta.mul"(%1, %v) : (tensor<4x4xf32>, tensor<4x4xf32>) -> tensor<4x4xf32> loc(#mul)
  %3 = "volta.tanh"(%2) : (tensor<4x4xf32>) -> tensor<4x4xf32> loc(#tanh)
  %4 = "volta.mul"(%3, %w) : (tensor<4x4xf32>, tensor<4x4xf32>) -> tensor<4x4xf32> loc(#mul)
  %5 = "volta.tanh"(%4) : (tensor<4x4xf32>) -> tensor<4x4xf32> loc(#tanh)
  return %5 : tensor<4x4xf32>
}

// -----

// The third piece squares its input, and the fourth returns an inner value: each is left as it is.

// LINALG-LABEL: func.func @differ

// CHECK-LABEL: func.func @differ
// CHECK-NEXT: %[[A:.*]] = call @differ.repeated(%{{.*}}, %{{.*}})
// CHECK-NEXT: %[[B:.*]] = call @differ.repeated(%[[A]], %{{.*}})
// CHECK-NEXT: "volta.mul"(%[[B]], %[[B]])
// CHECK-NEXT: "volta.tanh"
// CHECK-NEXT: %[[C:.*]] = "volta.mul"
// CHECK-NEXT: %[[D:.*]] = "volta.tanh"(%[[C]])
// CHECK-NEXT: return %[[D]], %[[C]]
#mul = loc("model.py":1:0)
#tanh = loc("model.py":2:0)
func.func @differ(%x: tensor<4xf32>, %w: tensor<4xf32>) -> (tensor<4xf32>, tensor<4xf32>) {
  %0 = "volta.mul"(%x, %w) : (tensor<4xf32>, tensor<4xf32>) -> tensor<4xf32> loc(#mul)
  %1 = "volta.tanh"(%0) : (tensor<4xf32>) -> tensor<4xf32> loc(#tanh)
  %2 = "volta.mul"(%1, %w) : (tensor<4xf32>, tensor<4xf32>) -> tensor<4xf32> loc(#mul)
  %3 = "volta.tanh"(%2) : (tensor<4xf32>) -> tensor<4xf32> loc(#tanh)
  %4 = "volta.mul"(%3, %3) : (tensor<4xf32>, tensor<4xf32>) -> tensor<4xf32> loc(#mul)
  %5 = "volta.tanh"(%4) : (tensor<4xf32>) -> tensor<4xf32> loc(#tanh)
  %6 = "volta.mul"(%5, %w) : (tensor<4xf32>, tensor<4xf32>) -> tensor<4xf32> loc(#mul)
  %7 = "volta.tanh"(%6) : (tensor<4xf32>) -> tensor<4xf32> loc(#tanh)
  return %7, %6 : tensor<4xf32>, tensor<4xf32>
}

// -----

// Ops of different lines are different: a function could name only one of the two.

// CHECK-LABEL: func.func @lines
// CHECK-NOT: call
func.func @lines(%x: tensor<4xf32>, %w: tensor<4xf32>) -> tensor<4xf32> {
  %0 = "volta.mul"(%x, %w) : (tensor<4xf32>, tensor<4xf32>) -> tensor<4xf32> loc("model.py":1:0)
  %1 = "volta.tanh"(%0) : (tensor<4xf32>) -> tensor<4xf32> loc("model.py":2:0)
  %2 = "volta.mul"(%1, %w) : (tensor<4xf32>, tensor<4xf32>) -> tensor<4xf32> loc("model.py":3:0)
  %3 = "volta.tanh"(%2) : (tensor<4xf32>) -> tensor<4xf32> loc("model.py":4:0)
  return %3 : tensor<4xf32>
}
