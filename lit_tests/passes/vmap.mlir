// Functions over one more leading axis: what does not depend on mapped arguments is computed once.

// RUN: volta-opt %s --split-input-file --verify-diagnostics --volta-vmap | filecheck %s
// RUN: volta-opt %s --split-input-file --verify-diagnostics --volta-vmap --volta-autodiff | filecheck %s --check-prefix=GRAD

// CHECK-LABEL: func.func private @f.vmap(
// CHECK-SAME: %[[X:.*]]: tensor<5x3xf32>, %[[W:.*]]: tensor<3xf32>) -> (tensor<5xf32>, tensor<5x3xf32>)
// CHECK-NEXT: %[[SIN:.*]] = "volta.sin"(%[[W]]) : (tensor<3xf32>)
// CHECK-NEXT: %[[SINS:.*]] = "volta.broadcast_in_dim"(%[[SIN]])
// CHECK-NEXT: %[[PRODUCT:.*]] = "volta.mul"(%[[X]], %[[SINS]]) : (tensor<5x3xf32>, tensor<5x3xf32>)
// CHECK-NEXT: %[[SUM:.*]] = "volta.reduce_sum"(%[[PRODUCT]]) {axes = array<i64: 1>} : (tensor<5x3xf32>) -> tensor<5xf32>
// CHECK-NEXT: %[[RESULT:.*]] = "volta.broadcast_in_dim"(%[[SIN]])
// CHECK-NEXT: return %[[SUM]], %[[RESULT]]

// CHECK-LABEL: func.func private @f.vmap.vmap
// CHECK-SAME: (%[[X:.*]]: tensor<2x5x3xf32>, %[[W:.*]]: tensor<2x3xf32>) -> (tensor<2x5xf32>, tensor<2x5x3xf32>)
// CHECK: %[[SIN:.*]] = "volta.sin"(%[[W]]) : (tensor<2x3xf32>)
// CHECK: "volta.mul"({{.*}}) : (tensor<2x5x3xf32>, tensor<2x5x3xf32>)
// CHECK: "volta.reduce_sum"(%{{.*}}) {axes = array<i64: 2>} : (tensor<2x5x3xf32>) -> tensor<2x5xf32>

// The gradient by what is not mapped sums over the examples.

// GRAD-LABEL: func.func private @f.vmap.vjp
// GRAD-SAME: (%[[X:.*]]: tensor<5x3xf32>, %[[W:.*]]: tensor<3xf32>, %[[A:.*]]: tensor<5xf32>, %[[B:.*]]: tensor<5x3xf32>)
// GRAD: "volta.reduce_sum"(%{{.*}}) {axes = array<i64: 0>} : (tensor<5x3xf32>) -> tensor<3xf32>
// GRAD: "volta.cos"(%[[W]])
// GRAD: return {{.*}} : tensor<5xf32>, tensor<5x3xf32>, tensor<3xf32>

func.func private @f(%x: tensor<3xf32>, %w: tensor<3xf32>) -> (tensor<f32>, tensor<3xf32>) {
  %0 = "volta.sin"(%w) : (tensor<3xf32>) -> tensor<3xf32>
  %1 = "volta.mul"(%x, %0) : (tensor<3xf32>, tensor<3xf32>) -> tensor<3xf32>
  %2 = "volta.reduce_sum"(%1) {axes = array<i64: 0>} : (tensor<3xf32>) -> tensor<f32>
  return %2, %0 : tensor<f32>, tensor<3xf32>
}

func.func private @f.vmap(tensor<5x3xf32>, tensor<3xf32>) -> (tensor<5xf32>, tensor<5x3xf32>)
  attributes {volta.vmap = @f, volta.batched = array<i1: true, false>, volta.size = 5 : i64}

func.func private @f.vmap.vmap(tensor<2x5x3xf32>, tensor<2x3xf32>) -> (tensor<2x5xf32>, tensor<2x5x3xf32>)
  attributes {volta.vmap = @f.vmap, volta.batched = array<i1: true, true>, volta.size = 2 : i64}

func.func private @f.vmap.vjp(tensor<5x3xf32>, tensor<3xf32>, tensor<5xf32>, tensor<5x3xf32>)
  -> (tensor<5xf32>, tensor<5x3xf32>, tensor<3xf32>) attributes {volta.vjp = @f.vmap, volta.wrt = array<i64: 1>}

// -----

func.func private @g(%x: tensor<f32>) -> tensor<f32> {
  return %x : tensor<f32>
}

// expected-error @below {{needs volta.size}}
func.func private @g.vmap(tensor<2xf32>) -> tensor<2xf32> attributes {volta.vmap = @g, volta.batched = array<i1: true>}

// -----

func.func private @g(%x: tensor<f32>) -> tensor<f32> {
  return %x : tensor<f32>
}

// expected-error @below {{volta.batched has 2 entries, @g has 1 arguments}}
func.func private @g.vmap(tensor<2xf32>) -> tensor<2xf32>
  attributes {volta.vmap = @g, volta.batched = array<i1: true, false>, volta.size = 2 : i64}

// -----

func.func private @g(%x: tensor<f32>) -> tensor<f32> {
  return %x : tensor<f32>
}

// expected-error @below {{@g.vmap is declared as (tensor<3xf32>) -> tensor<3xf32>, but volta.vmap of @g is (tensor<2xf32>)}}
func.func private @g.vmap(tensor<3xf32>) -> tensor<3xf32>
  attributes {volta.vmap = @g, volta.batched = array<i1: true>, volta.size = 2 : i64}

// -----

func.func private @g(%x: tensor<2xf32>) -> tensor<2xf32> {
  // expected-error @below {{'tensor.cast' can't be batched}}
  %0 = "tensor.cast"(%x) : (tensor<2xf32>) -> tensor<2xf32>
  return %0 : tensor<2xf32>
}

func.func private @g.vmap(tensor<3x2xf32>) -> tensor<3x2xf32>
  attributes {volta.vmap = @g, volta.batched = array<i1: true>, volta.size = 3 : i64}

// -----

func.func private @g(%x: tensor<f32>) -> tensor<f32> {
  return %x : tensor<f32>
}

// expected-error @below {{@g.vmap needs volta.batched = array<i1: …>, got [true]}}
func.func private @g.vmap(tensor<2xf32>) -> tensor<2xf32>
  attributes {volta.vmap = @g, volta.batched = [true], volta.size = 2 : i64}

// -----

func.func private @g(%x: tensor<f32>) -> tensor<f32> {
  return %x : tensor<f32>
}

// expected-error @below {{volta.size is not negative, got -2}}
func.func private @g.vmap(tensor<2xf32>) -> tensor<2xf32>
  attributes {volta.vmap = @g, volta.batched = array<i1: true>, volta.size = -2 : i64}

// -----

// expected-error @below {{@g can't be derived from: expected a statically shaped tensor of a Volta dtype, got memref<2xf32>}}
func.func private @g(%x: memref<2xf32>) {
  return
}

func.func private @g.vmap(memref<2xf32>) attributes {volta.vmap = @g, volta.batched = array<i1: true>, volta.size = 2 : i64}
