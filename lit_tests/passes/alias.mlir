// Donated arguments are paired with results of their type: first with the leaf of the same name, then in order.

// RUN: volta-opt %s --volta-alias | filecheck %s

// The path after the first component is what counts: a model's weight finds the new model's weight.

// CHECK-LABEL: func.func @by_name
// CHECK-SAME: %{{.*}}: tensor<2xf32> {iree.abi.output = 2 : index, volta.donated, volta.name = "model.a"}
// CHECK-SAME: %{{.*}}: tensor<2xf32> {iree.abi.output = 1 : index, volta.donated, volta.name = "model.b"}
func.func @by_name(%a: tensor<2xf32> {volta.donated, volta.name = "model.a"}, %b: tensor<2xf32> {volta.donated, volta.name = "model.b"})
    -> (tensor<2xf32> {volta.name = "result.0"}, tensor<2xf32> {volta.name = "0.b"}, tensor<2xf32> {volta.name = "0.a"}) {
  return %a, %b, %a : tensor<2xf32>, tensor<2xf32>, tensor<2xf32>
}

// CHECK-LABEL: func.func @in_order
// CHECK-SAME: %{{.*}}: tensor<2xf32> {iree.abi.output = 1 : index, volta.donated}
// CHECK-SAME: %{{.*}}: tensor<2xf32>,
// CHECK-SAME: %{{.*}}: tensor<2xf32> {iree.abi.output = 2 : index, volta.donated}
func.func @in_order(%a: tensor<2xf32> {volta.donated}, %b: tensor<2xf32>, %c: tensor<2xf32> {volta.donated})
    -> (tensor<2xi32>, tensor<2xf32>, tensor<2xf32>) {
  %0 = "volta.convert"(%a) {dtype = i32} : (tensor<2xf32>) -> tensor<2xi32>
  return %0, %b, %c : tensor<2xi32>, tensor<2xf32>, tensor<2xf32>
}

// A name wins over an earlier argument without one.

// CHECK-LABEL: func.func @names_first
// CHECK-SAME: %{{.*}}: tensor<2xf32> {volta.donated, volta.name = "x"}
// CHECK-SAME: %{{.*}}: tensor<2xf32> {iree.abi.output = 0 : index, volta.donated, volta.name = "m.w"}
func.func @names_first(%a: tensor<2xf32> {volta.donated, volta.name = "x"}, %b: tensor<2xf32> {volta.donated, volta.name = "m.w"})
    -> (tensor<2xf32> {volta.name = "0.w"}) {
  return %b : tensor<2xf32>
}

// Nothing fits: the shape or the dtype differ, or there is one result for two arguments.

// CHECK-LABEL: func.func @unmatched
// CHECK-SAME: %{{.*}}: tensor<2xf32> {volta.donated}
// CHECK-SAME: %{{.*}}: tensor<3xf32> {iree.abi.output = 1 : index, volta.donated}
// CHECK-SAME: %{{.*}}: tensor<3xf32> {volta.donated}
func.func @unmatched(%a: tensor<2xf32> {volta.donated}, %b: tensor<3xf32> {volta.donated}, %c: tensor<3xf32> {volta.donated})
    -> (tensor<2xi32>, tensor<3xf32>) {
  %0 = "volta.convert"(%a) {dtype = i32} : (tensor<2xf32>) -> tensor<2xi32>
  return %0, %c : tensor<2xi32>, tensor<3xf32>
}

// Only public functions are called from outside.

// CHECK-LABEL: func.func private @internal
// CHECK-NOT: iree.abi.output
func.func private @internal(%a: tensor<2xf32> {volta.donated}) -> tensor<2xf32> {
  return %a : tensor<2xf32>
}

// Only text names a leaf.

// CHECK-LABEL: func.func @numbered
// CHECK-SAME: {iree.abi.output = 0 : index, volta.donated, volta.name = 3 : i64}
func.func @numbered(%a: tensor<2xf32> {volta.donated, volta.name = 3}) -> (tensor<2xf32> {volta.name = 3}) {
  return %a : tensor<2xf32>
}

// What writes the result runs behind all that reads the argument, also through a reshape: here the update of a weight
// behind the gradient that passes through the weight.

// CHECK-LABEL: func.func @read_first
// CHECK: volta.reshape
// CHECK: volta.dot_general
// CHECK: volta.sub
// CHECK-NEXT: return
func.func @read_first(%w: tensor<4x4xf32> {volta.donated, volta.name = "model.w"}, %g: tensor<4x4xf32>, %y: tensor<16x4xf32>)
    -> (tensor<4x4xf32> {volta.name = "0.w"}, tensor<16x4xf32>) {
  %0 = "volta.sub"(%w, %g) : (tensor<4x4xf32>, tensor<4x4xf32>) -> tensor<4x4xf32>
  %1 = "volta.reshape"(%w) {shape = array<i64: 2, 2, 4>} : (tensor<4x4xf32>) -> tensor<2x2x4xf32>
  %2 = "volta.reshape"(%1) {shape = array<i64: 4, 4>} : (tensor<2x2x4xf32>) -> tensor<4x4xf32>
  %3 = "volta.dot_general"(%y, %2) {lhs_batch = array<i64>, rhs_batch = array<i64>, lhs_contract = array<i64: 1>, rhs_contract = array<i64: 1>, dtype = f32}
      : (tensor<16x4xf32>, tensor<4x4xf32>) -> tensor<16x4xf32>
  return %0, %3 : tensor<4x4xf32>, tensor<16x4xf32>
}

// Two arguments that change places read one another: one of the two orders holds, and nothing waits for itself.

// CHECK-LABEL: func.func @swapped
// CHECK: volta.abs
// CHECK-NEXT: volta.neg
// CHECK-NEXT: return
func.func @swapped(%a: tensor<2xf32> {volta.donated, volta.name = "x.a"}, %b: tensor<2xf32> {volta.donated, volta.name = "x.b"})
    -> (tensor<2xf32> {volta.name = "0.a"}, tensor<2xf32> {volta.name = "0.b"}) {
  %0 = "volta.neg"(%b) : (tensor<2xf32>) -> tensor<2xf32>
  %1 = "volta.abs"(%a) : (tensor<2xf32>) -> tensor<2xf32>
  return %0, %1 : tensor<2xf32>, tensor<2xf32>
}
