// Control flow is functions that are declared by what they do with others; so are its derivatives.

// RUN: volta-opt %s --split-input-file --volta-inline --cse --volta-simplify | filecheck %s
// RUN: volta-opt %s --split-input-file --volta-inline --cse --volta-simplify --convert-volta-to-linalg | filecheck %s --check-prefix=LOOP
// RUN: volta-opt %S/Inputs/control-flow-errors.mlir --split-input-file --verify-diagnostics --volta-inline --convert-volta-to-linalg

// The forward loop of the gradient also returns the carry of every step; the backward loop runs the other way over those
// and sums up the cotangents of the constant. Forward mode has a loop of tangents. The mapped loop has mapped carries.

// CHECK-LABEL: func.func @main
// CHECK-SAME: (%[[W:.*]]: tensor<f32>, %[[C:.*]]: tensor<f32>, %[[X:.*]]: tensor<4xf32>, %[[XS:.*]]: tensor<7x4xf32>)
// CHECK: %[[KEPT:.*]]:3 = call @[[KEEP:.*]](%[[W]], %[[C]], %[[X]]) : {{.*}} -> (tensor<f32>, tensor<4xf32>, tensor<4xf32>)
// CHECK: %[[BACKWARD:.*]]:2 = call @[[BWD:.*]](%[[W]], %{{.*}}, %{{.*}}, %[[X]], %[[KEPT]]#2, %{{.*}})
// CHECK: %[[STEPS:.*]] = "volta.transpose"(%[[XS]])
// CHECK: %[[MAPPED:.*]]:2 = call @[[MAP:.*]](%[[W]], %{{.*}}, %[[STEPS]]) : {{.*}} -> (tensor<7xf32>, tensor<4x7xf32>)
// CHECK: return %[[BACKWARD]]#1, %{{.*}}, %[[MAPPED]]#0
// CHECK: func.func private @body.vmap(%{{.*}}: tensor<f32>, %{{.*}}: tensor<7xf32>, %{{.*}}: tensor<7xf32>)
// CHECK: volta.reverse = true, volta.scan = @body.bwd

// Collected results begin as tensors that are not one, and the body has what is carried from an operation that reads it.

// LOOP: module attributes {stream.topology =
// LOOP-LABEL: func.func @main
// LOOP: %[[ZERO:.*]] = "util.optimization_barrier"
// LOOP: linalg.fill ins(%[[ZERO]] : f32)
// LOOP: %[[ZERO2:.*]] = "util.optimization_barrier"
// LOOP: linalg.fill ins(%[[ZERO2]] : f32)
// LOOP: %[[ALWAYS:.*]] = "util.optimization_barrier"(%true)
// LOOP: scf.for %{{.*}} = %{{.*}} iter_args(%[[CARRY:.*]] = %{{.*}}, %[[OUT:.*]] = %{{.*}}, %[[STACK:.*]] = %{{.*}}) -> (tensor<f32>, tensor<4xf32>, tensor<4xf32>)
// LOOP: %[[READ:.*]] = linalg.generic {{.*}} ins(%[[CARRY]] : tensor<f32>)
// LOOP: arith.select %[[ALWAYS]], %{{.*}}, %{{.*}} : f32
// LOOP: %[[ROW:.*]] = tensor.extract_slice
// LOOP-NEXT: %[[STEP:.*]]:3 = func.call @body.keep{{.*}}(%{{.*}}, %[[READ]], %[[ROW]])
// LOOP-NEXT: %[[OUT2:.*]] = tensor.insert_slice %[[STEP]]#1 into %[[OUT]]
// LOOP-NEXT: %[[STACK2:.*]] = tensor.insert_slice %[[STEP]]#2 into %[[STACK]]
// LOOP-NEXT: scf.yield %[[STEP]]#0, %[[OUT2]], %[[STACK2]]
// LOOP: scf.for %[[I:arg[0-9]+]] =
// LOOP: arith.subi %{{.*}}, %[[I]]

func.func private @body(%w: tensor<f32>, %c: tensor<f32>, %x: tensor<f32>) -> (tensor<f32>, tensor<f32>) {
  %0 = "volta.mul"(%c, %w) : (tensor<f32>, tensor<f32>) -> tensor<f32>
  %1 = "volta.add"(%0, %x) : (tensor<f32>, tensor<f32>) -> tensor<f32>
  return %1, %0 : tensor<f32>, tensor<f32>
}

func.func private @loop(tensor<f32>, tensor<f32>, tensor<4xf32>) -> (tensor<f32>, tensor<4xf32>)
  attributes {volta.scan = @body, volta.length = 4 : i64, volta.consts = 1 : i64, volta.carry = 1 : i64, volta.reverse = false}

func.func private @f(%w: tensor<f32>, %c: tensor<f32>, %x: tensor<4xf32>) -> tensor<f32> {
  %0:2 = func.call @loop(%w, %c, %x) : (tensor<f32>, tensor<f32>, tensor<4xf32>) -> (tensor<f32>, tensor<4xf32>)
  return %0#0 : tensor<f32>
}

func.func private @f.vjp(tensor<f32>, tensor<f32>, tensor<4xf32>, tensor<f32>) -> (tensor<f32>, tensor<f32>)
  attributes {volta.vjp = @f, volta.wrt = array<i64: 0>}

func.func private @f.jvp(tensor<f32>, tensor<f32>, tensor<4xf32>, tensor<4xf32>) -> (tensor<f32>, tensor<f32>)
  attributes {volta.jvp = @f, volta.wrt = array<i64: 2>}

func.func private @f.vmap(tensor<f32>, tensor<f32>, tensor<7x4xf32>) -> tensor<7xf32>
  attributes {volta.vmap = @f, volta.size = 7 : i64, volta.batched = array<i1: false, false, true>}

func.func @main(%w: tensor<f32>, %c: tensor<f32>, %x: tensor<4xf32>, %xs: tensor<7x4xf32>) -> (tensor<f32>, tensor<f32>, tensor<7xf32>) {
  %0:2 = func.call @f.vjp(%w, %c, %x, %c) : (tensor<f32>, tensor<f32>, tensor<4xf32>, tensor<f32>) -> (tensor<f32>, tensor<f32>)
  %1:2 = func.call @f.jvp(%w, %c, %x, %x) : (tensor<f32>, tensor<f32>, tensor<4xf32>, tensor<4xf32>) -> (tensor<f32>, tensor<f32>)
  %2 = func.call @f.vmap(%w, %c, %xs) : (tensor<f32>, tensor<f32>, tensor<7x4xf32>) -> tensor<7xf32>
  return %0#1, %1#1, %2 : tensor<f32>, tensor<f32>, tensor<7xf32>
}

// -----

// A mapped while loop runs until no example's condition holds; examples that are done keep their values.

// CHECK-LABEL: func.func @mapped_while
// CHECK: call @{{.*}} : (tensor<3xf32>) -> tensor<3xf32>
// CHECK: func.func private @more.any
// CHECK: "volta.reduce_any"
// CHECK: func.func private @double.masked
// CHECK: "volta.select"

// LOOP-LABEL: func.func @mapped_while
// LOOP: scf.while
// LOOP: func.call @more.any
// LOOP: tensor.extract
// LOOP: scf.condition
// LOOP: func.call @double.masked
// LOOP-NEXT: scf.yield

func.func private @more(%x: tensor<f32>) -> tensor<i1> {
  %ten = "volta.full"() {shape = array<i64>, value = dense<10.0> : tensor<f32>} : () -> tensor<f32>
  %0 = "volta.compare"(%x, %ten) {direction = "lt"} : (tensor<f32>, tensor<f32>) -> tensor<i1>
  return %0 : tensor<i1>
}

func.func private @double(%x: tensor<f32>) -> tensor<f32> {
  %0 = "volta.add"(%x, %x) : (tensor<f32>, tensor<f32>) -> tensor<f32>
  return %0 : tensor<f32>
}

func.func private @loop(tensor<f32>) -> tensor<f32> attributes {volta.while = @double, volta.condition = @more, volta.consts = 0 : i64}

func.func private @f(%x: tensor<f32>) -> tensor<f32> {
  %0 = func.call @loop(%x) : (tensor<f32>) -> tensor<f32>
  return %0 : tensor<f32>
}

func.func private @f.vmap(tensor<3xf32>) -> tensor<3xf32>
  attributes {volta.vmap = @f, volta.size = 3 : i64, volta.batched = array<i1: true>}

func.func @mapped_while(%x: tensor<3xf32>) -> tensor<3xf32> {
  %0 = func.call @f.vmap(%x) : (tensor<3xf32>) -> tensor<3xf32>
  return %0 : tensor<3xf32>
}

// -----

// The index of a switch is clamped: the first branch takes what is below, the last one what is above.

// LOOP-LABEL: func.func @choose
// LOOP: %[[INDEX:.*]] = tensor.extract
// LOOP: %[[LOW:.*]] = arith.cmpi sle, %[[INDEX]], %c0
// LOOP: scf.if %[[LOW]]
// LOOP-NEXT: func.call @a
// LOOP: else
// LOOP: %[[MIDDLE:.*]] = arith.cmpi sle, %[[INDEX]], %c1
// LOOP-NEXT: scf.if %[[MIDDLE]]
// LOOP-NEXT: func.call @b
// LOOP: else
// LOOP-NEXT: func.call @c

// The gradient chooses again, among the branches' backward functions.

// CHECK-LABEL: func.func @choose
// CHECK: call @{{.*}}(%{{.*}}, %{{.*}}, %{{.*}}) : (tensor<i32>, tensor<f32>, tensor<f32>) -> tensor<f32>
// CHECK: volta.switch = [@a.bwd, @b.bwd, @c.bwd]

func.func private @a(%x: tensor<f32>) -> tensor<f32> {
  return %x : tensor<f32>
}

func.func private @b(%x: tensor<f32>) -> tensor<f32> {
  %0 = "volta.neg"(%x) : (tensor<f32>) -> tensor<f32>
  return %0 : tensor<f32>
}

func.func private @c(%x: tensor<f32>) -> tensor<f32> {
  %0 = "volta.sin"(%x) : (tensor<f32>) -> tensor<f32>
  return %0 : tensor<f32>
}

func.func private @switch(tensor<i32>, tensor<f32>) -> tensor<f32> attributes {volta.switch = [@a, @b, @c]}

func.func private @f(%i: tensor<i32>, %x: tensor<f32>) -> tensor<f32> {
  %0 = func.call @switch(%i, %x) : (tensor<i32>, tensor<f32>) -> tensor<f32>
  return %0 : tensor<f32>
}

func.func private @f.vjp(tensor<i32>, tensor<f32>, tensor<f32>) -> (tensor<f32>, tensor<f32>)
  attributes {volta.vjp = @f, volta.wrt = array<i64: 1>}

func.func @choose(%i: tensor<i32>, %x: tensor<f32>) -> (tensor<f32>, tensor<f32>) {
  %0:2 = func.call @f.vjp(%i, %x, %x) : (tensor<i32>, tensor<f32>, tensor<f32>) -> (tensor<f32>, tensor<f32>)
  return %0#0, %0#1 : tensor<f32>, tensor<f32>
}

// -----

// A checkpoint's backward pass starts from its arguments again, when the gradient is there: otherwise the forward pass
// would serve for both, or both would be computed at once.

// CHECK-LABEL: func.func @recomputed
// CHECK-SAME: (%[[X:.*]]: tensor<f32>, %[[W:.*]]: tensor<f32>)
// CHECK: %[[WX:.*]] = "volta.mul"(%[[W]], %[[X]])
// CHECK: "volta.sin"(%[[WX]])
// CHECK: %[[WAGAIN:.*]] = "volta.after"(%[[W]], %[[X]])
// CHECK: %[[XAGAIN:.*]] = "volta.after"(%[[X]], %[[X]])
// CHECK: "volta.mul"(%[[WAGAIN]], %[[XAGAIN]])

func.func private @sine(%w: tensor<f32>, %x: tensor<f32>) -> tensor<f32> {
  %0 = "volta.mul"(%w, %x) : (tensor<f32>, tensor<f32>) -> tensor<f32>
  %1 = "volta.sin"(%0) : (tensor<f32>) -> tensor<f32>
  %2 = "volta.add"(%1, %x) : (tensor<f32>, tensor<f32>) -> tensor<f32>
  return %2 : tensor<f32>
}

func.func private @checkpoint(tensor<f32>, tensor<f32>) -> tensor<f32> attributes {volta.checkpoint = @sine}

func.func private @f(%w: tensor<f32>, %x: tensor<f32>) -> tensor<f32> {
  %0 = func.call @checkpoint(%w, %x) : (tensor<f32>, tensor<f32>) -> tensor<f32>
  return %0 : tensor<f32>
}

func.func private @f.vjp(tensor<f32>, tensor<f32>, tensor<f32>) -> (tensor<f32>, tensor<f32>)
  attributes {volta.vjp = @f, volta.wrt = array<i64: 0>}

func.func @recomputed(%x: tensor<f32>, %w: tensor<f32>) -> (tensor<f32>, tensor<f32>) {
  %0:2 = func.call @f.vjp(%w, %x, %x) : (tensor<f32>, tensor<f32>, tensor<f32>) -> (tensor<f32>, tensor<f32>)
  return %0#0, %0#1 : tensor<f32>, tensor<f32>
}

// -----

// A derivative of one's own: the function alone where nothing is differentiated, its forward and backward where it is.

// CHECK-LABEL: func.func @custom
// CHECK-SAME: (%[[X:.*]]: tensor<f32>)
// CHECK-NEXT: %[[Y:.*]] = "volta.sin"(%[[X]])
// CHECK-NEXT: %[[R:.*]] = "volta.exp"(%[[X]])
// CHECK-NEXT: %[[CT:.*]] = "volta.mul"(%[[R]], %[[X]])
// CHECK-NEXT: return %[[Y]], %[[Y]], %[[CT]]

func.func private @primal(%x: tensor<f32>) -> tensor<f32> {
  %0 = "volta.sin"(%x) : (tensor<f32>) -> tensor<f32>
  return %0 : tensor<f32>
}

func.func private @fwd(%x: tensor<f32>) -> (tensor<f32>, tensor<f32>) {
  %0 = "volta.sin"(%x) : (tensor<f32>) -> tensor<f32>
  %1 = "volta.exp"(%x) : (tensor<f32>) -> tensor<f32>
  return %0, %1 : tensor<f32>, tensor<f32>
}

func.func private @bwd(%residual: tensor<f32>, %ct: tensor<f32>) -> tensor<f32> {
  %0 = "volta.mul"(%residual, %ct) : (tensor<f32>, tensor<f32>) -> tensor<f32>
  return %0 : tensor<f32>
}

func.func private @own(tensor<f32>) -> tensor<f32> attributes {volta.custom_vjp = @primal, volta.fwd = @fwd, volta.bwd = @bwd}

func.func private @f(%x: tensor<f32>) -> tensor<f32> {
  %0 = func.call @own(%x) : (tensor<f32>) -> tensor<f32>
  return %0 : tensor<f32>
}

func.func private @f.vjp(tensor<f32>, tensor<f32>) -> (tensor<f32>, tensor<f32>)
  attributes {volta.vjp = @f, volta.wrt = array<i64: 0>}

func.func @custom(%x: tensor<f32>) -> (tensor<f32>, tensor<f32>, tensor<f32>) {
  %0 = func.call @f(%x) : (tensor<f32>) -> tensor<f32>
  %1:2 = func.call @f.vjp(%x, %x) : (tensor<f32>, tensor<f32>) -> (tensor<f32>, tensor<f32>)
  return %0, %1#0, %1#1 : tensor<f32>, tensor<f32>, tensor<f32>
}
