// Derived functions get bodies: forward mode, reverse mode, derivatives of derivatives, and what can't be derived.

// RUN: volta-opt %s --split-input-file --verify-diagnostics --volta-autodiff | filecheck %s
// RUN: volta-opt %s --split-input-file --verify-diagnostics --volta-autodiff=split=true | filecheck %s --check-prefix=SPLIT
// RUN: volta-opt %s --split-input-file --volta-inline --volta-simplify --cse | filecheck %s --check-prefix=INLINE

// The second argument is not differentiated by; integers have no derivatives. Partial derivatives are computed where the
// backward pass needs them: from what the forward pass computes, and after it.

// CHECK-LABEL: func.func private @f.vjp
// CHECK-SAME: (%[[X:.*]]: tensor<3xf32>, %[[W:.*]]: tensor<3xf32>, %[[N:.*]]: tensor<i32>, %[[CT:.*]]: tensor<f32>)
// CHECK-SAME: -> (tensor<f32>, tensor<i32>, tensor<3xf32>)
// CHECK-NEXT: %[[XW:.*]] = "volta.mul"(%[[X]], %[[W]])
// CHECK-NEXT: %[[SIN:.*]] = "volta.sin"(%[[XW]])
// CHECK-NEXT: %[[SUM:.*]] = "volta.reduce_sum"(%[[SIN]])
// CHECK-NEXT: %[[D_SIN:.*]] = "volta.broadcast_in_dim"(%[[CT]])
// CHECK-NEXT: %[[COS:.*]] = "volta.cos"(%[[XW]])
// CHECK-NEXT: %[[D_XW:.*]] = "volta.mul"(%[[D_SIN]], %[[COS]])
// CHECK-NEXT: %[[D_X:.*]] = "volta.mul"(%[[D_XW]], %[[W]])
// CHECK-NEXT: return %[[SUM]], %[[N]], %[[D_X]] :
// CHECK-NEXT: }

// CHECK-LABEL: func.func private @f.jvp
// CHECK-SAME: (%[[X:.*]]: tensor<3xf32>, %[[W:.*]]: tensor<3xf32>, %[[N:.*]]: tensor<i32>, %[[T:.*]]: tensor<3xf32>)
// CHECK-SAME: -> (tensor<f32>, tensor<i32>, tensor<f32>)
// CHECK: %[[SUM:.*]] = "volta.reduce_sum"
// CHECK-NEXT: %[[T_XW:.*]] = "volta.mul"(%[[X]], %[[T]])
// CHECK-NEXT: %[[COS:.*]] = "volta.cos"
// CHECK-NEXT: %[[T_SIN:.*]] = "volta.mul"(%[[T_XW]], %[[COS]])
// CHECK-NEXT: %[[T_SUM:.*]] = "volta.reduce_sum"(%[[T_SIN]])
// CHECK-NEXT: return %[[SUM]], %[[N]], %[[T_SUM]] :

// SPLIT-LABEL: func.func private @f.vjp.fwd
// SPLIT-SAME: (%[[X:.*]]: tensor<3xf32>, %[[W:.*]]: tensor<3xf32>, %[[N:.*]]: tensor<i32>)
// SPLIT: %[[XW:.*]] = "volta.mul"
// SPLIT: return %{{.*}}, %[[N]], %[[XW]], %[[W]] :
// SPLIT-LABEL: func.func private @f.vjp.bwd
// SPLIT-SAME: (%[[XW:.*]]: tensor<3xf32>, %[[W:.*]]: tensor<3xf32>, %[[CT:.*]]: tensor<f32>) -> tensor<3xf32>
// SPLIT: "volta.cos"(%[[XW]])
// SPLIT-LABEL: func.func private @f.vjp(
// SPLIT: %[[FWD:.*]]:4 = call @f.vjp.fwd(%{{.*}}, %{{.*}}, %{{.*}})
// SPLIT-NEXT: %[[BWD:.*]] = call @f.vjp.bwd(%[[FWD]]#2, %[[FWD]]#3, %{{.*}})
// SPLIT-NEXT: return %[[FWD]]#0, %[[FWD]]#1, %[[BWD]] :

func.func @f(%x: tensor<3xf32>, %w: tensor<3xf32>, %n: tensor<i32>) -> (tensor<f32>, tensor<i32>) {
  %0 = "volta.mul"(%x, %w) : (tensor<3xf32>, tensor<3xf32>) -> tensor<3xf32>
  %1 = "volta.sin"(%0) : (tensor<3xf32>) -> tensor<3xf32>
  %2 = "volta.reduce_sum"(%1) {axes = array<i64: 0>} : (tensor<3xf32>) -> tensor<f32>
  return %2, %n : tensor<f32>, tensor<i32>
}

func.func private @f.jvp(tensor<3xf32>, tensor<3xf32>, tensor<i32>, tensor<3xf32>)
  -> (tensor<f32>, tensor<i32>, tensor<f32>) attributes {volta.jvp = @f, volta.wrt = array<i64: 1>}

func.func private @f.vjp(tensor<3xf32>, tensor<3xf32>, tensor<i32>, tensor<f32>)
  -> (tensor<f32>, tensor<i32>, tensor<3xf32>) attributes {volta.vjp = @f, volta.wrt = array<i64: 0>}

// -----

// Derivatives nest: the gradient of the gradient of x³ is 6x.

// INLINE-LABEL: func.func @second
// INLINE-SAME: (%[[X:.*]]: tensor<f32>)
// INLINE-NEXT: %[[X2:.*]] = "volta.add"(%[[X]], %[[X]])
// INLINE-NEXT: %[[X4:.*]] = "volta.add"(%[[X2]], %[[X2]])
// INLINE-NEXT: %[[X5:.*]] = "volta.add"(%[[X4]], %[[X]])
// INLINE-NEXT: %[[X6:.*]] = "volta.add"(%[[X5]], %[[X]])
// INLINE-NEXT: return %[[X6]]

func.func private @cube(%x: tensor<f32>) -> tensor<f32> {
  %0 = "volta.mul"(%x, %x) : (tensor<f32>, tensor<f32>) -> tensor<f32>
  %1 = "volta.mul"(%0, %x) : (tensor<f32>, tensor<f32>) -> tensor<f32>
  return %1 : tensor<f32>
}

func.func private @cube.vjp(tensor<f32>, tensor<f32>) -> (tensor<f32>, tensor<f32>)
  attributes {volta.vjp = @cube, volta.wrt = array<i64: 0>}

func.func private @grad(%x: tensor<f32>) -> tensor<f32> {
  %one = "volta.full"() {shape = array<i64>, value = dense<1.0> : tensor<f32>} : () -> tensor<f32>
  %0:2 = func.call @cube.vjp(%x, %one) : (tensor<f32>, tensor<f32>) -> (tensor<f32>, tensor<f32>)
  return %0#1 : tensor<f32>
}

func.func private @grad.vjp(tensor<f32>, tensor<f32>) -> (tensor<f32>, tensor<f32>)
  attributes {volta.vjp = @grad, volta.wrt = array<i64: 0>}

func.func @second(%x: tensor<f32>) -> tensor<f32> {
  %one = "volta.full"() {shape = array<i64>, value = dense<1.0> : tensor<f32>} : () -> tensor<f32>
  %0:2 = func.call @grad.vjp(%x, %one) : (tensor<f32>, tensor<f32>) -> (tensor<f32>, tensor<f32>)
  return %0#1 : tensor<f32>
}

// -----

// What does not depend on an argument has a derivative of zero, as has what passes through stop_gradient; an argument
// that is returned twice gets both cotangents.

// CHECK-LABEL: func.func private @edges.vjp
// CHECK-SAME: (%[[X:.*]]: tensor<2xf32>, %[[Y:.*]]: tensor<2xf32>, %[[A:.*]]: tensor<2xf32>, %[[B:.*]]: tensor<2xf32>,
// CHECK: %[[STOPPED:.*]] = "volta.stop_gradient"(%[[Y]])
// CHECK-NEXT: %[[D_X:.*]] = "volta.add"(%[[A]], %[[B]])
// CHECK-NEXT: %[[ZERO:.*]] = "volta.full"() {{.*}}dense<0.0
// CHECK-NEXT: return %[[X]], %[[X]], %[[STOPPED]], %[[D_X]], %[[ZERO]]

// CHECK-LABEL: func.func private @edges.jvp
// CHECK: %[[ZERO:.*]] = "volta.full"() {{.*}}dense<0.0
// CHECK: return {{.*}}, %[[ZERO]] :

func.func @edges(%x: tensor<2xf32>, %y: tensor<2xf32>) -> (tensor<2xf32>, tensor<2xf32>, tensor<2xf32>) {
  %0 = "volta.stop_gradient"(%y) : (tensor<2xf32>) -> tensor<2xf32>
  return %x, %x, %0 : tensor<2xf32>, tensor<2xf32>, tensor<2xf32>
}

func.func private @edges.jvp(tensor<2xf32>, tensor<2xf32>, tensor<2xf32>, tensor<2xf32>)
  -> (tensor<2xf32>, tensor<2xf32>, tensor<2xf32>, tensor<2xf32>, tensor<2xf32>, tensor<2xf32>)
  attributes {volta.jvp = @edges, volta.wrt = array<i64: 0, 1>}

func.func private @edges.vjp(tensor<2xf32>, tensor<2xf32>, tensor<2xf32>, tensor<2xf32>, tensor<2xf32>)
  -> (tensor<2xf32>, tensor<2xf32>, tensor<2xf32>, tensor<2xf32>, tensor<2xf32>)
  attributes {volta.vjp = @edges, volta.wrt = array<i64: 0, 1>}

// -----

func.func private @g(%x: tensor<i32>) -> tensor<i32> {
  return %x : tensor<i32>
}

// expected-error @below {{volta.wrt = [0]: argument 0 of @g is not a floating-point tensor}}
func.func private @g.jvp(tensor<i32>) -> tensor<i32> attributes {volta.jvp = @g, volta.wrt = array<i64: 0>}

// -----

func.func private @g(%x: tensor<f32>) -> tensor<f32> {
  return %x : tensor<f32>
}

// expected-error @below {{argument 1 of @g is not a floating-point tensor}}
func.func private @g.jvp(tensor<f32>) -> tensor<f32> attributes {volta.jvp = @g, volta.wrt = array<i64: 1>}

// -----

func.func private @g(%x: tensor<f32>) -> tensor<f32> {
  return %x : tensor<f32>
}

// expected-error @below {{needs volta.wrt}}
func.func private @g.jvp(tensor<f32>) -> tensor<f32> attributes {volta.jvp = @g}

// -----

func.func private @g(%x: tensor<f32>) -> tensor<f32> {
  return %x : tensor<f32>
}

// expected-error @below {{@g.vjp is declared as (tensor<f32>) -> tensor<f32>, but volta.vjp of @g is (tensor<f32>, tensor<f32>)}}
func.func private @g.vjp(tensor<f32>) -> tensor<f32> attributes {volta.vjp = @g, volta.wrt = array<i64: 0>}

// -----

// expected-error @below {{there is no function @missing}}
func.func private @g.vjp(tensor<f32>) -> tensor<f32> attributes {volta.vjp = @missing, volta.wrt = array<i64: 0>}

// -----

func.func private @external(tensor<f32>) -> tensor<f32>

// expected-error @below {{@external has no body to derive from}}
func.func private @g.vjp(tensor<f32>) -> tensor<f32> attributes {volta.vjp = @external, volta.wrt = array<i64: 0>}

// -----

// expected-error @below {{recursion can't be compiled: @g.vjp -> @g.vjp}}
func.func private @g.vjp(tensor<f32>) -> tensor<f32> attributes {volta.vjp = @g.vjp, volta.wrt = array<i64: 0>}

// -----

func.func private @g(%x: tensor<2xf32>) -> tensor<2xf32> {
  // expected-error @below {{'tensor.cast' can't be differentiated}}
  %0 = "tensor.cast"(%x) : (tensor<2xf32>) -> tensor<2xf32>
  return %0 : tensor<2xf32>
}

func.func private @g.jvp(tensor<2xf32>, tensor<2xf32>) -> (tensor<2xf32>, tensor<2xf32>)
  attributes {volta.jvp = @g, volta.wrt = array<i64: 0>}

// -----

func.func private @g(%x: tensor<f32>) -> tensor<f32> {
  return %x : tensor<f32>
}

// expected-error @below {{@g.vjp needs volta.vjp = @function, got "g"}}
func.func private @g.vjp(tensor<f32>) -> tensor<f32> attributes {volta.vjp = "g", volta.wrt = array<i64: 0>}

// -----

// expected-error @below {{@g can't be derived from: expected a statically shaped tensor of a Volta dtype, got tensor<?xf32>}}
func.func private @g(%x: tensor<?xf32>) -> tensor<?xf32> {
  return %x : tensor<?xf32>
}

func.func private @g.vjp(tensor<?xf32>) -> tensor<?xf32> attributes {volta.vjp = @g, volta.wrt = array<i64: 0>}

// -----

// expected-error @below {{branches between blocks can't be transformed or lowered; use scf, or Volta's control flow}}
func.func private @g(%x: tensor<f32>) -> tensor<f32> {
  cf.br ^next(%x : tensor<f32>)
^next(%y: tensor<f32>):
  return %y : tensor<f32>
}

func.func private @g.jvp(tensor<f32>, tensor<f32>) -> (tensor<f32>, tensor<f32>)
  attributes {volta.jvp = @g, volta.wrt = array<i64: 0>}

// -----

// What is needed inside of an operation's regions is needed.

// SPLIT-LABEL: func.func private @chosen.vjp.fwd
// SPLIT-SAME: (%[[X:.*]]: tensor<4xf32>, %[[I:.*]]: tensor<4xi32>) -> (tensor<4xf32>, tensor<4xf32>)
// SPLIT: scf.if
// SPLIT: "volta.neg"(%[[I]])
// SPLIT: func.func private @chosen.vjp.bwd(%{{.*}}: tensor<4xf32>, %{{.*}}: tensor<4xf32>) -> tensor<4xf32>
func.func private @chosen(%x: tensor<4xf32>, %i: tensor<4xi32>) -> tensor<4xf32> {
  %c = arith.constant true
  %j = scf.if %c -> tensor<4xi32> {
    %0 = "volta.neg"(%i) : (tensor<4xi32>) -> tensor<4xi32>
    scf.yield %0 : tensor<4xi32>
  } else {
    scf.yield %i : tensor<4xi32>
  }
  %y = "volta.convert"(%j) {dtype = f32} : (tensor<4xi32>) -> tensor<4xf32>
  %z = "volta.mul"(%x, %y) : (tensor<4xf32>, tensor<4xf32>) -> tensor<4xf32>
  return %z : tensor<4xf32>
}

func.func private @chosen.vjp(tensor<4xf32>, tensor<4xi32>, tensor<4xf32>) -> (tensor<4xf32>, tensor<4xf32>)
  attributes {volta.vjp = @chosen, volta.wrt = array<i64: 0>}
