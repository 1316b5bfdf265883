// Every op becomes linalg, tensor, arith and math, on signless types; upstream ops and calls stay.

// RUN: volta-opt %s --split-input-file --verify-diagnostics --convert-volta-to-linalg | filecheck %s
// RUN: volta-opt %s --split-input-file --verify-diagnostics --convert-volta-to-linalg | not grep volta
// RUN: volta-opt %s --split-input-file --verify-diagnostics --convert-volta-to-linalg --canonicalize --cse | filecheck %s --check-prefix=CANON

// CHECK-LABEL: func.func @affine
// CHECK-SAME: (%[[X:.*]]: tensor<4x8xf32>, %[[W:.*]]: tensor<8x16xf32>, %[[B:.*]]: tensor<16xf32>) -> tensor<4x16xf32>
// CHECK: %[[ZEROS:.*]] = linalg.fill
// CHECK: %[[XW:.*]] = linalg.{{.*}} ins(%[[X]], %[[W]] : tensor<4x8xf32>, tensor<8x16xf32>) outs(%[[ZEROS]]
// CHECK: linalg.generic {{.*}} ins(%[[XW]], %{{.*}} : tensor<4x16xf32>, tensor<4x16xf32>)
// CHECK: arith.addf
// CHECK: return %{{.*}} : tensor<4x16xf32>
func.func @affine(%x: tensor<4x8xf32>, %w: tensor<8x16xf32>, %b: tensor<16xf32>) -> tensor<4x16xf32> {
  %0 = "volta.dot_general"(%x, %w) {dtype = f32, lhs_batch = array<i64>, rhs_batch = array<i64>, lhs_contract = array<i64: 1>, rhs_contract = array<i64: 0>} : (tensor<4x8xf32>, tensor<8x16xf32>) -> tensor<4x16xf32>
  %1 = "volta.broadcast_in_dim"(%b) {dims = array<i64: 1>, shape = array<i64: 4, 16>} : (tensor<16xf32>) -> tensor<4x16xf32>
  %2 = "volta.add"(%0, %1) : (tensor<4x16xf32>, tensor<4x16xf32>) -> tensor<4x16xf32>
  return %2 : tensor<4x16xf32>
}

// -----

// The operands of a product are packed, but not where the second stays in the cache as it is.

// CHECK-LABEL: func.func @packed
// CHECK: linalg.generic {{.*}} tensor<1024x1024xf32>) {{.*}}iree.opt.data_tiling
// CHECK: linalg.generic {{.*}} tensor<1024x32xf32>) outs(%{{[0-9]+}} : tensor<2048x32xf32>) {
// CHECK: linalg.generic {{.*}} tensor<1024x31xf32>) {{.*}}iree.opt.data_tiling
func.func @packed(%x: tensor<2048x1024xf32>, %w: tensor<1024x1024xf32>, %v: tensor<1024x32xf32>, %u: tensor<1024x31xf32>) -> (tensor<2048x1024xf32>, tensor<2048x32xf32>, tensor<2048x31xf32>) {
  %0 = "volta.dot_general"(%x, %w) {dtype = f32, lhs_batch = array<i64>, rhs_batch = array<i64>, lhs_contract = array<i64: 1>, rhs_contract = array<i64: 0>} : (tensor<2048x1024xf32>, tensor<1024x1024xf32>) -> tensor<2048x1024xf32>
  %1 = "volta.dot_general"(%x, %v) {dtype = f32, lhs_batch = array<i64>, rhs_batch = array<i64>, lhs_contract = array<i64: 1>, rhs_contract = array<i64: 0>} : (tensor<2048x1024xf32>, tensor<1024x32xf32>) -> tensor<2048x32xf32>
  %2 = "volta.dot_general"(%x, %u) {dtype = f32, lhs_batch = array<i64>, rhs_batch = array<i64>, lhs_contract = array<i64: 1>, rhs_contract = array<i64: 0>} : (tensor<2048x1024xf32>, tensor<1024x31xf32>) -> tensor<2048x31xf32>
  return %0, %1, %2 : tensor<2048x1024xf32>, tensor<2048x32xf32>, tensor<2048x31xf32>
}

// -----

// Unsigned types lose their sign; the operations keep it.

// CHECK-LABEL: func.func @unsigned
// CHECK-SAME: (%[[X:.*]]: tensor<2xi8>, %[[Y:.*]]: tensor<2xi8>) -> (tensor<2xi8>, tensor<2xi32>)
// CHECK: arith.maxui
// CHECK: arith.extui
func.func @unsigned(%x: tensor<2xui8>, %y: tensor<2xui8>) -> (tensor<2xui8>, tensor<2xui32>) {
  %0 = "volta.maximum"(%x, %y) : (tensor<2xui8>, tensor<2xui8>) -> tensor<2xui8>
  %1 = "volta.convert"(%0) {dtype = ui32} : (tensor<2xui8>) -> tensor<2xui32>
  return %0, %1 : tensor<2xui8>, tensor<2xui32>
}

// CHECK-LABEL: func.func @signed
// CHECK: arith.maxsi
// CHECK: arith.extsi
func.func @signed(%x: tensor<2xi8>, %y: tensor<2xi8>) -> (tensor<2xi8>, tensor<2xi32>) {
  %0 = "volta.maximum"(%x, %y) : (tensor<2xi8>, tensor<2xi8>) -> tensor<2xi8>
  %1 = "volta.convert"(%0) {dtype = i32} : (tensor<2xi8>) -> tensor<2xi32>
  return %0, %1 : tensor<2xi8>, tensor<2xi32>
}

// -----

// Attributes of the function, its arguments and results, and its visibility are kept; calls are left on signless types.

// CHECK-LABEL: func.func private @callee(%{{.*}}: tensor<i16>) -> tensor<i16>
func.func private @callee(%x: tensor<ui16>) -> tensor<ui16> {
  return %x : tensor<ui16>
}

// CHECK-LABEL: func.func @caller
// CHECK-SAME: %[[X:.*]]: tensor<i16> {iree.abi.output = 0 : index}) -> (tensor<i16> {test.name = "y"})
// CHECK-SAME: attributes {iree.reflection = {some = "text"}}
// CHECK: call @callee(%[[X]]) : (tensor<i16>) -> tensor<i16>
func.func @caller(%x: tensor<ui16> {iree.abi.output = 0 : index}) -> (tensor<ui16> {test.name = "y"})
    attributes {iree.reflection = {some = "text"}} {
  %0 = func.call @callee(%x) : (tensor<ui16>) -> tensor<ui16>
  return %0 : tensor<ui16>
}

// -----

// Upstream ops pass through, and what is lowered folds.

// CANON-LABEL: func.func @mixed
// CANON: %[[C:.*]] = arith.constant dense<2.000000e+00> : tensor<2xf32>
// CANON: return %[[C]]
func.func @mixed() -> tensor<2xf32> {
  %0 = arith.constant dense<1.0> : tensor<2xf32>
  %1 = "volta.constant"() {value = dense<1.0> : tensor<2xf32>} : () -> tensor<2xf32>
  %2 = arith.addf %0, %1 : tensor<2xf32>
  return %2 : tensor<2xf32>
}

// -----

func.func private @f(%x: tensor<f32>) -> tensor<f32> {
  return %x : tensor<f32>
}

// expected-error @below {{@f.jvp has no body; derived functions are defined by volta-autodiff and volta-vmap}}
func.func private @f.jvp(tensor<f32>, tensor<f32>) -> (tensor<f32>, tensor<f32>)
  attributes {volta.jvp = @f, volta.wrt = array<i64: 0>}

// -----

// A checkpoint means something to derivatives only, and is gone after volta-inline.

func.func private @f(%x: tensor<f32>) -> tensor<f32> {
  return %x : tensor<f32>
}

// expected-error @below {{@f.checkpoint: volta-inline must run before lowering}}
func.func private @f.checkpoint(tensor<f32>) -> tensor<f32> attributes {volta.checkpoint = @f}

func.func @main(%x: tensor<f32>) -> tensor<f32> {
  %0 = func.call @f.checkpoint(%x) : (tensor<f32>) -> tensor<f32>
  return %0 : tensor<f32>
}

// -----

// Ops in the regions of upstream ops are lowered as well.

// CHECK-LABEL: func.func @regions
// CHECK-SAME: (%[[X:.*]]: tensor<2xi32>, %[[C:.*]]: i1) -> tensor<2xi32>
// CHECK: scf.if %[[C]] -> (tensor<2xi32>)
// CHECK: linalg.generic {{.*}} ins(%[[X]] : tensor<2xi32>)
// CHECK: arith.xori
// CHECK: scf.yield %[[X]]
func.func @regions(%x: tensor<2xui32>, %c: i1) -> tensor<2xui32> {
  %0 = scf.if %c -> tensor<2xui32> {
    %1 = "volta.not"(%x) : (tensor<2xui32>) -> tensor<2xui32>
    scf.yield %1 : tensor<2xui32>
  } else {
    scf.yield %x : tensor<2xui32>
  }
  return %0 : tensor<2xui32>
}

// -----

// expected-error @below {{branches between blocks can't be transformed or lowered}}
func.func @branches(%x: tensor<f32>) -> tensor<f32> {
  cf.br ^next(%x : tensor<f32>)
^next(%y: tensor<f32>):
  return %y : tensor<f32>
}

// -----

// expected-error @below {{expected a statically shaped tensor of a Volta dtype, got tensor<?xf32>}}
func.func @dynamic(%x: tensor<?xf32>) -> tensor<?xf32> {
  return %x : tensor<?xf32>
}

// -----

// expected-error @below {{'volta.full' can't be lowered outside of a function}}
"volta.full"() {value = dense<0.0> : tensor<f32>, shape = array<i64: 2>} : () -> tensor<2xf32>
