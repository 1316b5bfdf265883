// Passes run in the order of the command line, and a pipeline says the same in one argument.

// RUN: volta-opt %s --cse --symbol-dce | filecheck %s
// RUN: volta-opt --cse %s --symbol-dce | filecheck %s
// RUN: volta-opt %s --pass-pipeline='builtin.module(func.func(cse),symbol-dce)' | filecheck %s
// RUN: volta-opt %s --pass-pipeline='cse, symbol-dce' | filecheck %s
// RUN: volta-opt %s | filecheck %s --check-prefix=NO-PASS
// RUN: volta-opt %s --symbol-dce --cse --print-ir-after-all 2>&1 >%t | filecheck %s --check-prefix=ORDER

// CHECK-NOT: @unused
// CHECK: func.func @main(%[[X:.*]]: tensor<4xf32>)
// CHECK-NEXT: %[[NEG:.*]] = "volta.neg"(%[[X]])
// CHECK-NEXT: %[[SUM:.*]] = "volta.add"(%[[NEG]], %[[NEG]])
// CHECK-NEXT: return %[[SUM]]

// NO-PASS: @unused
// NO-PASS: "volta.neg"
// NO-PASS-NEXT: "volta.neg"

// ORDER: IR Dump After symbol-dce
// ORDER: IR Dump After cse

func.func private @unused() {
  return
}

func.func @main(%x: tensor<4xf32>) -> tensor<4xf32> {
  %0 = "volta.neg"(%x) : (tensor<4xf32>) -> tensor<4xf32>
  %1 = "volta.neg"(%x) : (tensor<4xf32>) -> tensor<4xf32>
  %2 = "volta.add"(%0, %1) : (tensor<4xf32>, tensor<4xf32>) -> tensor<4xf32>
  return %2 : tensor<4xf32>
}
