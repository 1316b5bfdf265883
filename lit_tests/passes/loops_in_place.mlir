// A scan that stays a loop writes each step's results where they belong; nothing is copied but what one step has.

// RUN: volta-opt %s --convert-volta-to-linalg -o %t.mlir
// RUN: iree-compile %t.mlir --iree-hal-target-device=local --iree-hal-local-target-device-backends=llvm-cpu --compile-to=stream -o %t.stream.mlir
// RUN: filecheck %s --input-file %t.stream.mlir

// CHECK: util.func public @main
// CHECK-DAG: %[[ROW:.*]] = arith.constant 4096 : index
// CHECK-DAG: %[[STACK:.*]] = arith.constant 4096000 : index
// CHECK: %[[RESULT:.*]], %{{.*}} = stream.resource.alloca {{.*}}{%[[STACK]]}
// CHECK: cf.cond_br

// The stack is no argument of the loop: every step writes to the one allocation.

// CHECK-NOT: stream.resource.alloca {{.*}}{%[[STACK]]}
// CHECK: stream.cmd.execute {{.*}} %[[RESULT]] as %[[INSIDE:.*]]: !stream.resource<external>{%[[STACK]]}
// CHECK-NOT: stream.cmd.copy %[[INSIDE]]
// CHECK-NOT: stream.cmd.copy {{.*}}, %[[STACK]] :
// CHECK: cf.br
// CHECK-NOT: stream.cmd.copy
// CHECK: util.return

func.func private @body(%c: tensor<1024xf32>, %x: tensor<1024xf32>) -> (tensor<1024xf32>, tensor<1024xf32>) {
  %0 = "volta.sin"(%c) : (tensor<1024xf32>) -> tensor<1024xf32>
  %1 = "volta.add"(%0, %x) : (tensor<1024xf32>, tensor<1024xf32>) -> tensor<1024xf32>
  return %1, %0 : tensor<1024xf32>, tensor<1024xf32>
}

func.func private @loop(tensor<1024xf32>, tensor<1000x1024xf32>) -> (tensor<1024xf32>, tensor<1000x1024xf32>)
  attributes {volta.scan = @body, volta.length = 1000 : i64, volta.consts = 0 : i64, volta.carry = 1 : i64, volta.reverse = false}

func.func @main(%c: tensor<1024xf32>, %x: tensor<1000x1024xf32>) -> (tensor<1024xf32>, tensor<1000x1024xf32>) {
  %0:2 = func.call @loop(%c, %x) : (tensor<1024xf32>, tensor<1000x1024xf32>) -> (tensor<1024xf32>, tensor<1000x1024xf32>)
  return %0#0, %0#1 : tensor<1024xf32>, tensor<1000x1024xf32>
}
