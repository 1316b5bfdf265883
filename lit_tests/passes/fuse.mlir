// What is computed in one loop nest, what is not, and what is stored in between.

// RUN: volta-opt %s --volta-fuse --split-input-file | filecheck %s
// RUN: volta-opt %s --volta-fuse="recompute=false rows=false" --split-input-file | filecheck %s --check-prefix=OFF
// RUN: volta-opt %s --volta-fuse --convert-volta-to-linalg --split-input-file | filecheck %s --check-prefix=LINALG

// A chain, with a broadcast, a constant and an iota inside, is one function and one loop nest. Its only operands are
// those tensors.

// CHECK-LABEL: func.func @chain
// CHECK-SAME: (%[[X:.*]]: tensor<8x4xf32>, %[[B:.*]]: tensor<4xf32>)
// CHECK-NEXT: %[[Y:.*]] = call @chain.fused(%[[B]], %[[X]]) {volta.saved = 1024 : i64}
// CHECK-NEXT: return %[[Y]]
// CHECK: func.func private @chain.fused({{.*}}) -> tensor<8x4xf32> attributes {volta.fused}

// LINALG-LABEL: func.func @chain
// LINALG: linalg.generic {{.*}} iterator_types = ["parallel", "parallel"]} ins(%{{.*}}, %{{.*}} : tensor<{{.*}}>, tensor<{{.*}}>)
// LINALG-NEXT: ^bb0
// LINALG-NEXT: arith.addf
// LINALG-NEXT: linalg.index 1
// LINALG: arith.mulf
// LINALG: math.tanh
// LINALG-NEXT: linalg.yield
// LINALG-NEXT: } -> tensor<8x4xf32>
// LINALG-NEXT: flow.return
func.func @chain(%x: tensor<8x4xf32>, %b: tensor<4xf32>) -> tensor<8x4xf32> {
  %0 = "volta.broadcast_in_dim"(%b) {dims = array<i64: 1>, shape = array<i64: 8, 4>} : (tensor<4xf32>) -> tensor<8x4xf32>
  %1 = "volta.add"(%x, %0) : (tensor<8x4xf32>, tensor<8x4xf32>) -> tensor<8x4xf32>
  %2 = "volta.iota"() {shape = array<i64: 8, 4>, axis = 1 : i64, dtype = f32} : () -> tensor<8x4xf32>
  %3 = "volta.mul"(%1, %2) : (tensor<8x4xf32>, tensor<8x4xf32>) -> tensor<8x4xf32>
  %4 = "volta.tanh"(%3) : (tensor<8x4xf32>) -> tensor<8x4xf32>
  return %4 : tensor<8x4xf32>
}

// -----

// One op alone stays as it is, and so do movements that no elementwise op uses.

// CHECK-LABEL: func.func @alone
// CHECK-NEXT: "volta.tanh"
// CHECK-NEXT: "volta.broadcast_in_dim"
// CHECK-NEXT: return
func.func @alone(%x: tensor<4xf32>) -> (tensor<4xf32>, tensor<8x4xf32>) {
  %0 = "volta.tanh"(%x) : (tensor<4xf32>) -> tensor<4xf32>
  %1 = "volta.broadcast_in_dim"(%x) {dims = array<i64: 1>, shape = array<i64: 8, 4>} : (tensor<4xf32>) -> tensor<8x4xf32>
  return %0, %1 : tensor<4xf32>, tensor<8x4xf32>
}

// -----

// What lies before and after a product can't be one. The tanh is computed in both rather than stored: it reads as much
// as it would write. The product reads a stored value.

// CHECK-LABEL: func.func @computed_twice
// CHECK-NEXT: %[[A:.*]] = call @computed_twice.fused(%arg0)
// CHECK-NEXT: %[[P:.*]] = "volta.dot_general"(%[[A]], %arg1)
// CHECK-NEXT: %[[Y:.*]] = call @computed_twice.fused.1(%arg0, %[[P]])
// CHECK-NEXT: return %[[Y]]
// CHECK: func.func private @computed_twice.fused(
// CHECK: "volta.tanh"
// CHECK: func.func private @computed_twice.fused.1(
// CHECK: "volta.tanh"

// OFF-LABEL: func.func @computed_twice
// OFF-NEXT: %[[A:.*]]:2 = call @computed_twice.fused(%arg0)
// OFF-NEXT: %[[P:.*]] = "volta.dot_general"(%[[A]]#1, %arg1)
// OFF-NEXT: %[[Y:.*]] = "volta.mul"(%[[P]], %[[A]]#0)
// OFF-NEXT: return %[[Y]]
func.func @computed_twice(%x: tensor<64x64xf32>, %w: tensor<64x64xf32>) -> tensor<64x64xf32> {
  %0 = "volta.tanh"(%x) : (tensor<64x64xf32>) -> tensor<64x64xf32>
  %1 = "volta.mul"(%0, %x) : (tensor<64x64xf32>, tensor<64x64xf32>) -> tensor<64x64xf32>
  %2 = "volta.dot_general"(%1, %w) {dtype = f32, lhs_batch = array<i64>, rhs_batch = array<i64>, lhs_contract = array<i64: 1>, rhs_contract = array<i64: 0>} : (tensor<64x64xf32>, tensor<64x64xf32>) -> tensor<64x64xf32>
  %3 = "volta.mul"(%2, %0) : (tensor<64x64xf32>, tensor<64x64xf32>) -> tensor<64x64xf32>
  return %3 : tensor<64x64xf32>
}

// -----

// A sum of two tensors that two kernels use is stored, by the first of them: computing it again would read, and keep, two.

// CHECK-LABEL: func.func @stored
// CHECK-NEXT: %[[R:.*]]:2 = call @stored.fused(%arg0, %arg1)
// CHECK-NEXT: %[[P:.*]] = "volta.dot_general"(%[[R]]#1, %arg2)
// CHECK-NEXT: %[[T:.*]] = call @stored.fused.1(%[[P]], %[[R]]#0)
func.func @stored(%x: tensor<64x64xf32>, %y: tensor<64x64xf32>, %w: tensor<64x64xf32>) -> tensor<64x64xf32> {
  %0 = "volta.add"(%x, %y) : (tensor<64x64xf32>, tensor<64x64xf32>) -> tensor<64x64xf32>
  %1 = "volta.neg"(%0) : (tensor<64x64xf32>) -> tensor<64x64xf32>
  %2 = "volta.abs"(%1) : (tensor<64x64xf32>) -> tensor<64x64xf32>
  %3 = "volta.dot_general"(%2, %w) {dtype = f32, lhs_batch = array<i64>, rhs_batch = array<i64>, lhs_contract = array<i64: 1>, rhs_contract = array<i64: 0>} : (tensor<64x64xf32>, tensor<64x64xf32>) -> tensor<64x64xf32>
  %4 = "volta.abs"(%3) : (tensor<64x64xf32>) -> tensor<64x64xf32>
  %5 = "volta.mul"(%4, %0) : (tensor<64x64xf32>, tensor<64x64xf32>) -> tensor<64x64xf32>
  return %5 : tensor<64x64xf32>
}

// -----

// An expensive value of few elements is not computed for every element that it is broadcast to.

// CHECK-LABEL: func.func @of_each_row
// CHECK-NEXT: %[[R:.*]] = "volta.rsqrt"(%arg1)
// CHECK-NEXT: call @of_each_row.fused(%[[R]], %arg0)
func.func @of_each_row(%x: tensor<512x512xf32>, %v: tensor<512xf32>) -> tensor<512x512xf32> {
  %0 = "volta.rsqrt"(%v) : (tensor<512xf32>) -> tensor<512xf32>
  %1 = "volta.broadcast_in_dim"(%0) {dims = array<i64: 0>, shape = array<i64: 512, 512>} : (tensor<512xf32>) -> tensor<512x512xf32>
  %2 = "volta.mul"(%x, %1) : (tensor<512x512xf32>, tensor<512x512xf32>) -> tensor<512x512xf32>
  return %2 : tensor<512x512xf32>
}

// -----

// Results over the same loops that read the same tensor are computed together, also where one uses the other.

// CHECK-LABEL: func.func @moments
// CHECK-NEXT: %[[R:.*]]:2 = call @moments.fused(%arg0, %arg1)
// CHECK-NEXT: return %[[R]]#0, %[[R]]#1

// LINALG-LABEL: func.func @moments
// LINALG: linalg.generic {{.*}} ins(%arg0, %arg1 : tensor<16xf32>, tensor<16xf32>)
// LINALG: arith.addf
// LINALG-NEXT: arith.mulf
// LINALG-NEXT: linalg.yield
func.func @moments(%m: tensor<16xf32>, %g: tensor<16xf32>) -> (tensor<16xf32>, tensor<16xf32>) {
  %0 = "volta.add"(%m, %g) : (tensor<16xf32>, tensor<16xf32>) -> tensor<16xf32>
  %1 = "volta.mul"(%0, %g) : (tensor<16xf32>, tensor<16xf32>) -> tensor<16xf32>
  return %0, %1 : tensor<16xf32>, tensor<16xf32>
}

// -----

// Not where something that is no part of the loops has to run between.

// CHECK-LABEL: func.func @between
// CHECK-NEXT: %[[A:.*]] = call @between.fused(%arg0, %arg1)
// CHECK-NEXT: %[[G:.*]] = "volta.gather"(%[[A]], %arg2)
// CHECK-NEXT: call @between.fused.1(%[[G]], %arg0)
func.func @between(%x: tensor<16xf32>, %y: tensor<16xf32>, %i: tensor<16xi32>) -> (tensor<16xf32>, tensor<16xf32>) {
  %0 = "volta.add"(%x, %y) : (tensor<16xf32>, tensor<16xf32>) -> tensor<16xf32>
  %1 = "volta.neg"(%0) : (tensor<16xf32>) -> tensor<16xf32>
  %2 = "volta.gather"(%1, %i) {axis = 0 : i64, batch_axes = array<i64>} : (tensor<16xf32>, tensor<16xi32>) -> tensor<16xf32>
  %3 = "volta.neg"(%2) : (tensor<16xf32>) -> tensor<16xf32>
  %4 = "volta.mul"(%3, %x) : (tensor<16xf32>, tensor<16xf32>) -> tensor<16xf32>
  return %1, %4 : tensor<16xf32>, tensor<16xf32>
}

// -----

// A reduction computes what it folds. Two over the same rows are one loop nest; a third, which needs the first one's
// result, is not.

// CHECK-LABEL: func.func @reductions
// CHECK-NEXT: %[[R:.*]]:2 = call @reductions.fused(%arg0)
// CHECK-NEXT: %[[D:.*]] = call @reductions.fused.1(%[[R]]#0, %arg0)
// CHECK-NEXT: return %[[R]]#0, %[[R]]#1, %[[D]]

// LINALG-LABEL: func.func @reductions
// LINALG: %[[R:.*]]:2 = "flow.dispatch.region"
// LINALG: linalg.generic {{.*}} iterator_types = ["parallel", "reduction"]} ins(%arg0 : tensor<8x4xf32>)
// LINALG: linalg.generic {{.*}} iterator_types = ["parallel", "reduction"]} ins(%[[R]]#0, %arg0 : tensor<8xf32>, tensor<8x4xf32>)
func.func @reductions(%x: tensor<8x4xf32>) -> (tensor<8xf32>, tensor<8xf32>, tensor<8xf32>) {
  %0 = "volta.abs"(%x) : (tensor<8x4xf32>) -> tensor<8x4xf32>
  %1 = "volta.reduce_sum"(%0) {axes = array<i64: 1>} : (tensor<8x4xf32>) -> tensor<8xf32>
  %2 = "volta.mul"(%0, %x) : (tensor<8x4xf32>, tensor<8x4xf32>) -> tensor<8x4xf32>
  %3 = "volta.reduce_max"(%2) {axes = array<i64: 1>} : (tensor<8x4xf32>) -> tensor<8xf32>
  %4 = "volta.broadcast_in_dim"(%1) {dims = array<i64: 0>, shape = array<i64: 8, 4>} : (tensor<8xf32>) -> tensor<8x4xf32>
  %5 = "volta.sub"(%x, %4) : (tensor<8x4xf32>, tensor<8x4xf32>) -> tensor<8x4xf32>
  %6 = "volta.reduce_sum"(%5) {axes = array<i64: 1>} : (tensor<8x4xf32>) -> tensor<8xf32>
  return %1, %3, %6 : tensor<8xf32>, tensor<8xf32>, tensor<8xf32>
}

// -----

// Adjacent axes are folded as one loop. An operand that has only one of them would make it two, with which IREE is slow:
// then what is folded is stored.

// CHECK-LABEL: func.func @axes
// CHECK-NEXT: %[[A:.*]] = call @axes.fused(%arg0)
// CHECK-NEXT: %[[P:.*]] = call @axes.fused.1(%arg1, %arg0)
// CHECK-NEXT: %[[B:.*]] = "volta.reduce_sum"(%[[P]])

// LINALG-LABEL: func.func @axes
// LINALG: %[[C:.*]] = tensor.collapse_shape %arg0 {{\[\[}}0, 1], [2{{\]\]}}
// LINALG: linalg.generic {{.*}} iterator_types = ["reduction", "parallel"]} ins(%[[C]] :
// LINALG: math.absf
func.func @axes(%x: tensor<8x4x2xf32>, %y: tensor<4x2xf32>) -> (tensor<2xf32>, tensor<2xf32>) {
  %0 = "volta.abs"(%x) : (tensor<8x4x2xf32>) -> tensor<8x4x2xf32>
  %1 = "volta.reduce_sum"(%0) {axes = array<i64: 0, 1>} : (tensor<8x4x2xf32>) -> tensor<2xf32>
  %2 = "volta.broadcast_in_dim"(%y) {dims = array<i64: 1, 2>, shape = array<i64: 8, 4, 2>} : (tensor<4x2xf32>) -> tensor<8x4x2xf32>
  %3 = "volta.mul"(%x, %2) : (tensor<8x4x2xf32>, tensor<8x4x2xf32>) -> tensor<8x4x2xf32>
  %4 = "volta.reduce_sum"(%3) {axes = array<i64: 0, 1>} : (tensor<8x4x2xf32>) -> tensor<2xf32>
  return %1, %4 : tensor<2xf32>, tensor<2xf32>
}

// -----

// Runs of axes that are not adjacent are folded one after the other, the last one with what is folded.

// CHECK-LABEL: func.func @channels
// CHECK-NEXT: call @channels.fused(%arg0)

// LINALG-LABEL: func.func @channels
// LINALG: math.absf
// LINALG: } -> tensor<8x4xf32>
// LINALG: linalg.generic {{.*}} iterator_types = ["reduction", "parallel"]}
func.func @channels(%x: tensor<8x4x2x2xf32>) -> tensor<4xf32> {
  %0 = "volta.abs"(%x) : (tensor<8x4x2x2xf32>) -> tensor<8x4x2x2xf32>
  %1 = "volta.reduce_sum"(%0) {axes = array<i64: 0, 2, 3>} : (tensor<8x4x2x2xf32>) -> tensor<4xf32>
  return %1 : tensor<4xf32>
}

// -----

// Axes of extent 1 come and go, and transpositions are read in place, but not a product's: IREE would make that a part
// of the product, which takes longer.

// CHECK-LABEL: func.func @movements
// CHECK-NEXT: call @movements.fused(%arg1, %arg0)
// CHECK-NEXT: %[[P:.*]] = "volta.dot_general"
// CHECK-NEXT: %[[T:.*]] = "volta.transpose"(%[[P]])
// CHECK-NEXT: "volta.neg"(%[[T]])
func.func @movements(%x: tensor<8x4xf32>, %y: tensor<4x8xf32>) -> (tensor<8x1x4xf32>, tensor<8x8xf32>) {
  %0 = "volta.transpose"(%y) {permutation = array<i64: 1, 0>} : (tensor<4x8xf32>) -> tensor<8x4xf32>
  %1 = "volta.add"(%x, %0) : (tensor<8x4xf32>, tensor<8x4xf32>) -> tensor<8x4xf32>
  %2 = "volta.reshape"(%1) {shape = array<i64: 8, 1, 4>} : (tensor<8x4xf32>) -> tensor<8x1x4xf32>
  %3 = "volta.abs"(%2) : (tensor<8x1x4xf32>) -> tensor<8x1x4xf32>
  %4 = "volta.dot_general"(%x, %y) {dtype = f32, lhs_batch = array<i64>, rhs_batch = array<i64>, lhs_contract = array<i64: 1>, rhs_contract = array<i64: 0>} : (tensor<8x4xf32>, tensor<4x8xf32>) -> tensor<8x8xf32>
  %5 = "volta.transpose"(%4) {permutation = array<i64: 1, 0>} : (tensor<8x8xf32>) -> tensor<8x8xf32>
  %6 = "volta.neg"(%5) : (tensor<8x8xf32>) -> tensor<8x8xf32>
  return %3, %6 : tensor<8x1x4xf32>, tensor<8x8xf32>
}

// -----

// A power of integers is a loop of its own, and nothing is computed without elements.

// CHECK-LABEL: func.func @apart
// CHECK-NEXT: "volta.pow"
// CHECK-NEXT: "volta.neg"
// CHECK-NEXT: "volta.neg"
// CHECK-NEXT: "volta.abs"
func.func @apart(%n: tensor<4xi32>, %none: tensor<0xf32>) -> (tensor<4xi32>, tensor<0xf32>) {
  %0 = "volta.pow"(%n, %n) : (tensor<4xi32>, tensor<4xi32>) -> tensor<4xi32>
  %1 = "volta.neg"(%0) : (tensor<4xi32>) -> tensor<4xi32>
  %2 = "volta.neg"(%none) : (tensor<0xf32>) -> tensor<0xf32>
  %3 = "volta.abs"(%2) : (tensor<0xf32>) -> tensor<0xf32>
  return %1, %3 : tensor<4xi32>, tensor<0xf32>
}

// -----

// Reductions of the same rows, and what is computed from them for each row or element, are one dispatch of several
// loop nests. What only they use is not stored.

// CHECK-LABEL: func.func @softmax
// CHECK-NEXT: %[[R:.*]] = call @softmax.fused.3(%arg0)
// CHECK-NEXT: return %[[R]]
// CHECK: func.func private @softmax.fused.3(%[[X:.*]]: tensor<64x16xf32>) -> tensor<64x16xf32>
// CHECK-NEXT: %[[M:.*]] = call @softmax.fused(%[[X]])
// CHECK-NEXT: %[[S:.*]] = call @softmax.fused.1(%[[M]], %[[X]])
// CHECK-NEXT: %[[P:.*]] = call @softmax.fused.2(%[[M]], %[[X]], %[[S]])
// CHECK-NEXT: return %[[P]]

// LINALG-LABEL: func.func @softmax
// LINALG: "flow.dispatch.region"
// LINALG: arith.maximumf
// LINALG: math.exp
// LINALG: math.exp
// LINALG: "flow.return"
// LINALG-NOT: "flow.dispatch.region"

// OFF-LABEL: func.func @softmax
// OFF-NEXT: %[[M:.*]] = call @softmax.fused(%arg0)
// OFF-NEXT: %[[E:.*]] = call @softmax.fused.1(%[[M]], %arg0)
// OFF-NEXT: %[[S:.*]] = call @softmax.fused.2(%[[E]])
// OFF-NEXT: %[[P:.*]] = call @softmax.fused.3(%[[S]], %[[E]])
// OFF-NEXT: return %[[P]]
func.func @softmax(%x: tensor<64x16xf32>) -> tensor<64x16xf32> {
  %0 = "volta.reduce_max"(%x) {axes = array<i64: 1>} : (tensor<64x16xf32>) -> tensor<64xf32>
  %1 = "volta.broadcast_in_dim"(%0) {dims = array<i64: 0>, shape = array<i64: 64, 16>} : (tensor<64xf32>) -> tensor<64x16xf32>
  %2 = "volta.sub"(%x, %1) : (tensor<64x16xf32>, tensor<64x16xf32>) -> tensor<64x16xf32>
  %3 = "volta.exp"(%2) : (tensor<64x16xf32>) -> tensor<64x16xf32>
  %4 = "volta.reduce_sum"(%3) {axes = array<i64: 1>} : (tensor<64x16xf32>) -> tensor<64xf32>
  %5 = "volta.broadcast_in_dim"(%4) {dims = array<i64: 0>, shape = array<i64: 64, 16>} : (tensor<64xf32>) -> tensor<64x16xf32>
  %6 = "volta.div"(%3, %5) : (tensor<64x16xf32>, tensor<64x16xf32>) -> tensor<64x16xf32>
  return %6 : tensor<64x16xf32>
}

// -----

// The update of a bias joins the sum that its gradient is. What needs whole columns of the operand does not, nor does
// what needs the sum for another row.

// LINALG-LABEL: func.func @columns
// CHECK-LABEL: func.func @columns
// CHECK-NEXT: %[[R:.*]]:2 = call @columns.fused.2(%arg0, %arg1)
// CHECK-NEXT: call @columns.fused.3(%[[R]]#0, %arg0)
// CHECK-NEXT: "volta.reverse"(%[[R]]#0)
// CHECK-NEXT: return
// CHECK: func.func private @columns.fused.2(%[[X:.*]]: tensor<16x64xf32>, %[[B:.*]]: tensor<64xf32>) -> (tensor<64xf32>, tensor<64xf32>)
// CHECK-NEXT: %[[S:.*]] = call @columns.fused(%[[X]])
// CHECK-NEXT: %[[U:.*]] = call @columns.fused.1(%[[B]], %[[S]])
// CHECK-NEXT: return %[[S]], %[[U]]
func.func @columns(%x: tensor<16x64xf32>, %b: tensor<64xf32>) -> (tensor<64xf32>, tensor<16x64xf32>, tensor<64xf32>) {
  %0 = "volta.abs"(%x) : (tensor<16x64xf32>) -> tensor<16x64xf32>
  %1 = "volta.reduce_sum"(%0) {axes = array<i64: 0>} : (tensor<16x64xf32>) -> tensor<64xf32>
  %2 = "volta.sub"(%b, %1) : (tensor<64xf32>, tensor<64xf32>) -> tensor<64xf32>
  %3 = "volta.broadcast_in_dim"(%1) {dims = array<i64: 1>, shape = array<i64: 16, 64>} : (tensor<64xf32>) -> tensor<16x64xf32>
  %4 = "volta.sub"(%x, %3) : (tensor<16x64xf32>, tensor<16x64xf32>) -> tensor<16x64xf32>
  %5 = "volta.reverse"(%1) {axes = array<i64: 0>} : (tensor<64xf32>) -> tensor<64xf32>
  return %2, %4, %5 : tensor<64xf32>, tensor<16x64xf32>, tensor<64xf32>
}

// -----

// A few long rows are better shared by all threads.

// CHECK-LABEL: func.func @few_rows
// CHECK-NEXT: %[[S:.*]] = call @few_rows.fused(%arg0)
// CHECK-NEXT: call @few_rows.fused.1(%[[S]], %arg0)
// CHECK-NEXT: return
func.func @few_rows(%x: tensor<4x512xf32>) -> tensor<4x512xf32> {
  %0 = "volta.reduce_sum"(%x) {axes = array<i64: 1>} : (tensor<4x512xf32>) -> tensor<4xf32>
  %1 = "volta.broadcast_in_dim"(%0) {dims = array<i64: 0>, shape = array<i64: 4, 512>} : (tensor<4xf32>) -> tensor<4x512xf32>
  %2 = "volta.sub"(%x, %1) : (tensor<4x512xf32>, tensor<4x512xf32>) -> tensor<4x512xf32>
  return %2 : tensor<4x512xf32>
}

// -----

// Kernels that depend on no argument stay apart: IREE computes them once, and then mixes the results of one kernel up.

// CHECK-LABEL: func.func @constants
// CHECK-NEXT: %[[ODD:.*]] = call @constants.fused() {{.*}}: () -> tensor<8xi1>
// CHECK-NEXT: %[[NUMBERS:.*]] = "volta.convert"(%[[ODD]])
// CHECK-NEXT: return %[[ODD]], %[[NUMBERS]]
func.func @constants() -> (tensor<8xi1>, tensor<8xi32>) {
  %0 = "volta.iota"() {shape = array<i64: 8>, axis = 0 : i64, dtype = i32} : () -> tensor<8xi32>
  %1 = "volta.convert"(%0) {dtype = i1} : (tensor<8xi32>) -> tensor<8xi1>
  %2 = "volta.convert"(%1) {dtype = i32} : (tensor<8xi1>) -> tensor<8xi32>
  return %1, %2 : tensor<8xi1>, tensor<8xi32>
}

// -----

// What nothing uses is not computed, however long a chain it is.

// CHECK-LABEL: func.func @unused
// CHECK-NEXT: return %arg0
func.func @unused(%x: tensor<64x16xf32>) -> tensor<64x16xf32> {
  %0 = "volta.tanh"(%x) : (tensor<64x16xf32>) -> tensor<64x16xf32>
  %1 = "volta.reduce_sum"(%0) {axes = array<i64: 1>} : (tensor<64x16xf32>) -> tensor<64xf32>
  %2 = "volta.broadcast_in_dim"(%1) {dims = array<i64: 0>, shape = array<i64: 64, 16>} : (tensor<64xf32>) -> tensor<64x16xf32>
  %3 = "volta.sub"(%0, %2) : (tensor<64x16xf32>, tensor<64x16xf32>) -> tensor<64x16xf32>
  %4 = "volta.abs"(%3) : (tensor<64x16xf32>) -> tensor<64x16xf32>
  return %x : tensor<64x16xf32>
}

// -----

// Groups must not wait for one another. The second maximum joins the first, which so waits for the exponentials: what needs
// the first can't join these.

// CHECK-LABEL: func.func @waits
// CHECK-NEXT: %[[E:.*]] = "volta.exp"(%arg0)
// CHECK-NEXT: %[[M:.*]]:2 = call @waits.fused(%arg0, %[[E]])
// CHECK-NEXT: %[[S:.*]] = call @waits.fused.1(%[[M]]#0)
// CHECK-NEXT: %[[D:.*]] = call @waits.fused.2(%[[S]], %arg0)
// CHECK-NEXT: return %[[E]], %[[M]]#1, %[[D]]
func.func @waits(%x: tensor<64x16xf32>) -> (tensor<64x16xf32>, tensor<64xf32>, tensor<64x16xf32>) {
  %0 = "volta.tanh"(%x) : (tensor<64x16xf32>) -> tensor<64x16xf32>
  %1 = "volta.reduce_max"(%0) {axes = array<i64: 1>} : (tensor<64x16xf32>) -> tensor<64xf32>
  %2 = "volta.reduce_sum"(%1) {axes = array<i64: 0>} : (tensor<64xf32>) -> tensor<f32>
  %3 = "volta.exp"(%x) : (tensor<64x16xf32>) -> tensor<64x16xf32>
  %4 = "volta.add"(%3, %x) : (tensor<64x16xf32>, tensor<64x16xf32>) -> tensor<64x16xf32>
  %5 = "volta.reduce_max"(%4) {axes = array<i64: 1>} : (tensor<64x16xf32>) -> tensor<64xf32>
  %6 = "volta.broadcast_in_dim"(%2) {dims = array<i64>, shape = array<i64: 64, 16>} : (tensor<f32>) -> tensor<64x16xf32>
  %7 = "volta.sub"(%x, %6) : (tensor<64x16xf32>, tensor<64x16xf32>) -> tensor<64x16xf32>
  return %3, %5, %7 : tensor<64x16xf32>, tensor<64xf32>, tensor<64x16xf32>
}

// -----

// Rows are folded in lanes: every sixteenth element with the others of its kind, then these. That is the order wherever
// a row is folded, and so a reduction of rows is a function by itself too.

// CHECK-LABEL: func.func @lanes
// CHECK-NEXT: call @lanes.fused(%arg0)

// LINALG-LABEL: func.func @lanes
// LINALG-NEXT: "flow.dispatch.region"
// LINALG: tensor.expand_shape %arg0 {{\[\[}}0], [1, 2{{\]\]}} output_shape [8, 4, 16]
// LINALG: linalg.generic {{.*}} iterator_types = ["parallel", "reduction", "parallel"]}
// LINALG: } -> tensor<8x16xf32>
// LINALG: linalg.generic {{.*}} iterator_types = ["parallel", "reduction"]}
// LINALG: } -> tensor<8xf32>
// LINALG-NEXT: "flow.return"
func.func @lanes(%x: tensor<8x64xf32>) -> tensor<8xf32> {
  %0 = "volta.reduce_sum"(%x) {axes = array<i64: 1>} : (tensor<8x64xf32>) -> tensor<8xf32>
  return %0 : tensor<8xf32>
}

// -----

// A long run is folded in parts, and a further dispatch folds their results.

// CHECK-LABEL: func.func @parts
// CHECK-NEXT: call @parts.fused(%arg0)

// LINALG-LABEL: func.func @parts
// LINALG: tensor.collapse_shape %arg0 {{\[\[}}0, 1], [2{{\]\]}}
// LINALG-NEXT: "flow.dispatch.region"
// LINALG: tensor.expand_shape {{.*}} output_shape [70, 100, 32]
// LINALG: math.absf
// LINALG: } -> tensor<70x32xf32>
// LINALG-NEXT: "flow.return"
// LINALG: linalg.generic {{.*}} iterator_types = ["reduction", "parallel"]}
// LINALG: } -> tensor<32xf32>
func.func @parts(%x: tensor<100x70x32xf32>) -> tensor<32xf32> {
  %0 = "volta.abs"(%x) : (tensor<100x70x32xf32>) -> tensor<100x70x32xf32>
  %1 = "volta.reduce_sum"(%0) {axes = array<i64: 0, 1>} : (tensor<100x70x32xf32>) -> tensor<32xf32>
  return %1 : tensor<32xf32>
}

// -----

// What else the function computes from the result goes into the further dispatch.

// CHECK-LABEL: func.func @mean
// CHECK-NEXT: call @mean.fused.2(%arg0)

// LINALG-LABEL: func.func @mean
// LINALG: "flow.dispatch.region"
// LINALG: } -> tensor<70xf32>
// LINALG: "flow.return"
// LINALG: "flow.dispatch.region"
// LINALG: arith.addf
// LINALG: arith.divf
// LINALG: "flow.return"
// LINALG-NOT: "flow.dispatch.region"
func.func @mean(%x: tensor<100x70xf32>) -> tensor<f32> {
  %0 = "volta.full"() {shape = array<i64>, value = dense<7.0e3> : tensor<f32>} : () -> tensor<f32>
  %1 = "volta.reduce_sum"(%x) {axes = array<i64: 0, 1>} : (tensor<100x70xf32>) -> tensor<f32>
  %2 = "volta.div"(%1, %0) : (tensor<f32>, tensor<f32>) -> tensor<f32>
  return %2 : tensor<f32>
}

// -----

// A row of fewer steps than a part would have is folded in the dispatch of what uses it.

// LINALG-LABEL: func.func @mean_of_few
// LINALG: "flow.dispatch.region"
// LINALG: arith.divf
// LINALG: "flow.return"
// LINALG-NOT: "flow.dispatch.region"
func.func @mean_of_few(%x: tensor<64x96xf32>) -> tensor<f32> {
  %0 = "volta.full"() {shape = array<i64>, value = dense<6144.0> : tensor<f32>} : () -> tensor<f32>
  %1 = "volta.reduce_sum"(%x) {axes = array<i64: 0, 1>} : (tensor<64x96xf32>) -> tensor<f32>
  %2 = "volta.div"(%1, %0) : (tensor<f32>, tensor<f32>) -> tensor<f32>
  return %2 : tensor<f32>
}
