// Public functions keep no calls but those of control flow; private functions that nothing needs any more are removed.

// RUN: volta-opt %s --split-input-file --volta-inline | filecheck %s
// RUN: volta-opt %S/Inputs/recursion.mlir --split-input-file --verify-diagnostics --volta-inline

// CHECK-LABEL: func.func @first
// CHECK-SAME: (%[[X:.*]]: tensor<f32>)
// CHECK-NEXT: %[[A:.*]] = "volta.neg"(%[[X]])
// CHECK-NEXT: %[[B:.*]] = "volta.neg"(%[[A]])
// CHECK-NEXT: return %[[B]]
// CHECK-LABEL: func.func @second
// CHECK-NEXT: %[[C:.*]] = "volta.neg"
// CHECK-NEXT: return %[[C]]
// CHECK-NOT: func.func

func.func private @negative(%x: tensor<f32>) -> tensor<f32> {
  %0 = "volta.neg"(%x) : (tensor<f32>) -> tensor<f32>
  return %0 : tensor<f32>
}

func.func private @twice(%x: tensor<f32>) -> tensor<f32> {
  %0 = func.call @negative(%x) : (tensor<f32>) -> tensor<f32>
  %1 = func.call @negative(%0) : (tensor<f32>) -> tensor<f32>
  return %1 : tensor<f32>
}

func.func @first(%x: tensor<f32>) -> tensor<f32> {
  %0 = func.call @twice(%x) : (tensor<f32>) -> tensor<f32>
  return %0 : tensor<f32>
}

func.func @second(%x: tensor<f32>) -> tensor<f32> {
  %0 = func.call @negative(%x) : (tensor<f32>) -> tensor<f32>
  return %0 : tensor<f32>
}

// -----

// Derived functions are defined on the way, whatever has run before.

// CHECK-LABEL: func.func @main
// CHECK-SAME: (%[[X:.*]]: tensor<2xf32>, %[[T:.*]]: tensor<2xf32>)
// CHECK-NEXT: "volta.sin"(%[[X]])
// CHECK-NEXT: %[[COS:.*]] = "volta.cos"(%[[X]])
// CHECK-NEXT: %[[TANGENT:.*]] = "volta.mul"(%[[T]], %[[COS]]) : (tensor<2xf32>, tensor<2xf32>)
// CHECK-NEXT: return %[[TANGENT]]
// CHECK-NOT: func.func

func.func private @sin(%x: tensor<f32>) -> tensor<f32> {
  %0 = "volta.sin"(%x) : (tensor<f32>) -> tensor<f32>
  return %0 : tensor<f32>
}

func.func private @sin.jvp(tensor<f32>, tensor<f32>) -> (tensor<f32>, tensor<f32>)
  attributes {volta.jvp = @sin, volta.wrt = array<i64: 0>}

func.func private @sin.jvp.vmap(tensor<2xf32>, tensor<2xf32>) -> (tensor<2xf32>, tensor<2xf32>)
  attributes {volta.vmap = @sin.jvp, volta.batched = array<i1: true, true>, volta.size = 2 : i64}

func.func @main(%x: tensor<2xf32>, %t: tensor<2xf32>) -> tensor<2xf32> {
  %0:2 = func.call @sin.jvp.vmap(%x, %t) : (tensor<2xf32>, tensor<2xf32>) -> (tensor<2xf32>, tensor<2xf32>)
  return %0#1 : tensor<2xf32>
}

// -----

// A loop stays a call, and keeps its parts. A checkpoint is inlined: nothing is left to differentiate.

// CHECK-LABEL: func.func private @body
// CHECK-NEXT: "volta.neg"
// CHECK-NEXT: return
// CHECK: func.func private @loop({{.*}} attributes {{{.*}}volta.scan = @body}
// CHECK-NOT: @body.checkpoint
// CHECK-LABEL: func.func @main
// CHECK-NEXT: call @loop
// CHECK-NEXT: "volta.neg"
// CHECK-NEXT: return

func.func private @negative(%x: tensor<f32>) -> tensor<f32> {
  %0 = "volta.neg"(%x) : (tensor<f32>) -> tensor<f32>
  return %0 : tensor<f32>
}

func.func private @negative.checkpoint(tensor<f32>) -> tensor<f32> attributes {volta.checkpoint = @negative}

func.func private @body(%c: tensor<f32>) -> tensor<f32> {
  %0 = func.call @negative.checkpoint(%c) : (tensor<f32>) -> tensor<f32>
  return %0 : tensor<f32>
}

func.func private @loop(tensor<f32>) -> tensor<f32>
  attributes {volta.scan = @body, volta.length = 9 : i64, volta.consts = 0 : i64, volta.carry = 1 : i64, volta.reverse = false}

func.func @main(%x: tensor<f32>) -> tensor<f32> {
  %0 = func.call @loop(%x) : (tensor<f32>) -> tensor<f32>
  %1 = func.call @negative.checkpoint(%0) : (tensor<f32>) -> tensor<f32>
  return %1 : tensor<f32>
}

// -----

// What an op's region uses from around it stays right, and calls in regions are inlined too.

// CHECK-LABEL: func.func @main
// CHECK-SAME: (%[[X:.*]]: tensor<2xf32>, %[[C:.*]]: i1)
// CHECK: scf.if %[[C]]
// CHECK: %[[Y:.*]] = "volta.neg"(%[[X]])
// CHECK: scf.yield %[[Y]]
// CHECK: scf.yield %[[X]]
// CHECK-NOT: func.func

func.func private @negative(%x: tensor<2xf32>) -> tensor<2xf32> {
  %0 = "volta.neg"(%x) : (tensor<2xf32>) -> tensor<2xf32>
  return %0 : tensor<2xf32>
}

func.func private @choose(%x: tensor<2xf32>, %c: i1) -> tensor<2xf32> {
  %0 = scf.if %c -> tensor<2xf32> {
    %1 = func.call @negative(%x) : (tensor<2xf32>) -> tensor<2xf32>
    scf.yield %1 : tensor<2xf32>
  } else {
    scf.yield %x : tensor<2xf32>
  }
  return %0 : tensor<2xf32>
}

func.func @main(%x: tensor<2xf32>, %c: i1) -> tensor<2xf32> {
  %0 = func.call @choose(%x, %c) : (tensor<2xf32>, i1) -> tensor<2xf32>
  return %0 : tensor<2xf32>
}

// -----

// What takes no part in a derivative may be anything.

func.func private @scaled(%x: tensor<f32>, %s: tensor<f32>, %double: i1) -> tensor<f32> {
  %0 = scf.if %double -> tensor<f32> {
    %1 = "volta.add"(%s, %s) : (tensor<f32>, tensor<f32>) -> tensor<f32>
    scf.yield %1 : tensor<f32>
  } else {
    scf.yield %s : tensor<f32>
  }
  %2 = "volta.mul"(%x, %0) : (tensor<f32>, tensor<f32>) -> tensor<f32>
  return %2 : tensor<f32>
}

func.func private @scaled.vjp(tensor<f32>, tensor<f32>, i1, tensor<f32>) -> (tensor<f32>, tensor<f32>)
  attributes {volta.vjp = @scaled, volta.wrt = array<i64: 0>}

// CHECK-LABEL: func.func @main
// CHECK-SAME: (%[[X:.*]]: tensor<f32>, %[[S:.*]]: tensor<f32>, %[[D:.*]]: i1)
// CHECK: %[[FACTOR:.*]] = scf.if %[[D]]
// CHECK: %[[DX:.*]] = "volta.mul"(%[[S]], %[[FACTOR]])
// CHECK: return %[[DX]]
func.func @main(%x: tensor<f32>, %s: tensor<f32>, %double: i1) -> tensor<f32> {
  %0:2 = func.call @scaled.vjp(%x, %s, %double, %s) : (tensor<f32>, tensor<f32>, i1, tensor<f32>) -> (tensor<f32>, tensor<f32>)
  return %0#1 : tensor<f32>
}
