// Short scans become straight-line code, inner ones first; long ones stay loops.

// RUN: volta-opt %s --volta-unroll | filecheck %s
// RUN: volta-opt %s --volta-unroll=max-ops=4 | filecheck %s --check-prefix=FEWER
// RUN: volta-opt %s --volta-unroll=max-ops=1 | filecheck %s --check-prefix=NONE

// The last step comes first, and the collected results keep the order of the inputs.

// CHECK-LABEL: func.func @main
// CHECK-SAME: (%[[W:.*]]: tensor<f32>, %[[C:.*]]: tensor<f32>, %[[X:.*]]: tensor<2xf32>)
// CHECK-NEXT: %[[X1:.*]] = "volta.slice"(%[[X]]) {{.*}}start = array<i64: 1>
// CHECK-NEXT: %[[B:.*]] = "volta.reshape"(%[[X1]])
// CHECK-NEXT: %[[C1:.*]] = "volta.mul"(%[[C]], %[[W]])
// CHECK-NEXT: %[[Y1:.*]] = "volta.add"(%[[C1]], %[[B]])
// CHECK-NEXT: %[[X0:.*]] = "volta.slice"(%[[X]]) {{.*}}start = array<i64: 0>
// CHECK-NEXT: %[[A:.*]] = "volta.reshape"(%[[X0]])
// CHECK-NEXT: %[[C0:.*]] = "volta.mul"(%[[C1]], %[[W]])
// CHECK-NEXT: %[[Y0:.*]] = "volta.add"(%[[C0]], %[[A]])
// CHECK-NEXT: %[[R0:.*]] = "volta.reshape"(%[[Y0]])
// CHECK-NEXT: %[[R1:.*]] = "volta.reshape"(%[[Y1]])
// CHECK-NEXT: %[[Y:.*]] = "volta.concatenate"(%[[R0]], %[[R1]])
// CHECK-NEXT: return %[[C0]], %[[Y]]
// CHECK-NOT: @body

// FEWER-LABEL: func.func @main
// FEWER-NOT: call
// FEWER-LABEL: func.func @long
// FEWER: call @long_loop

// NONE-LABEL: func.func @main
// NONE: call @loop

func.func private @body(%w: tensor<f32>, %c: tensor<f32>, %x: tensor<f32>) -> (tensor<f32>, tensor<f32>) {
  %0 = "volta.mul"(%c, %w) : (tensor<f32>, tensor<f32>) -> tensor<f32>
  %1 = "volta.add"(%0, %x) : (tensor<f32>, tensor<f32>) -> tensor<f32>
  return %0, %1 : tensor<f32>, tensor<f32>
}

func.func private @loop(tensor<f32>, tensor<f32>, tensor<2xf32>) -> (tensor<f32>, tensor<2xf32>)
  attributes {volta.scan = @body, volta.length = 2 : i64, volta.consts = 1 : i64, volta.carry = 1 : i64, volta.reverse = true}

func.func @main(%w: tensor<f32>, %c: tensor<f32>, %x: tensor<2xf32>) -> (tensor<f32>, tensor<2xf32>) {
  %0:2 = func.call @loop(%w, %c, %x) : (tensor<f32>, tensor<f32>, tensor<2xf32>) -> (tensor<f32>, tensor<2xf32>)
  return %0#0, %0#1 : tensor<f32>, tensor<2xf32>
}

// Nothing to do at all, and nested loops of four steps.

// CHECK-LABEL: func.func @long
// CHECK-NOT: call
// CHECK-COUNT-4: "volta.neg"
// CHECK-NOT: "volta.neg"
// CHECK: %[[EMPTY:.*]] = "volta.full"() {shape = array<i64: 0>
// CHECK: return %{{.*}}, %[[EMPTY]]

func.func private @negate(%c: tensor<f32>) -> tensor<f32> {
  %0 = "volta.neg"(%c) : (tensor<f32>) -> tensor<f32>
  return %0 : tensor<f32>
}

func.func private @inner_loop(tensor<f32>) -> tensor<f32>
  attributes {volta.scan = @negate, volta.length = 2 : i64, volta.consts = 0 : i64, volta.carry = 1 : i64, volta.reverse = false}

func.func private @outer(%c: tensor<f32>) -> tensor<f32> {
  %0 = func.call @inner_loop(%c) : (tensor<f32>) -> tensor<f32>
  %1 = "volta.stop_gradient"(%0) : (tensor<f32>) -> tensor<f32>
  return %1 : tensor<f32>
}

func.func private @long_loop(tensor<f32>) -> tensor<f32>
  attributes {volta.scan = @outer, volta.length = 2 : i64, volta.consts = 0 : i64, volta.carry = 1 : i64, volta.reverse = false}

func.func private @no_loop(tensor<f32>, tensor<f32>, tensor<0xf32>) -> (tensor<f32>, tensor<0xf32>)
  attributes {volta.scan = @body, volta.length = 0 : i64, volta.consts = 1 : i64, volta.carry = 1 : i64, volta.reverse = false}

func.func @long(%x: tensor<f32>, %none: tensor<0xf32>) -> (tensor<f32>, tensor<0xf32>) {
  %0 = func.call @long_loop(%x) : (tensor<f32>) -> tensor<f32>
  %1:2 = func.call @no_loop(%x, %0, %none) : (tensor<f32>, tensor<f32>, tensor<0xf32>) -> (tensor<f32>, tensor<0xf32>)
  return %1#0, %1#1 : tensor<f32>, tensor<0xf32>
}
