// A loss by hand, its derivative as a declaration, and a training step that calls it:
//
//   volta-opt loss.mlir --volta-autodiff --volta-inline --cse --volta-simplify --convert-volta-to-linalg -o step.mlir
//   iree-compile step.mlir --iree-hal-target-device=local --iree-hal-local-target-device-backends=llvm-cpu \
//     --iree-llvmcpu-target-cpu=host -o step.vmfb
//   iree-run-module --module=step.vmfb --function=step --input=3x2xf32=0.5 --input=4x3xf32=1

func.func private @loss(%w: tensor<3x2xf32>, %x: tensor<4x3xf32>) -> tensor<f32> {
  %0 = "volta.dot_general"(%x, %w) {lhs_batch = array<i64>, rhs_batch = array<i64>, lhs_contract = array<i64: 1>,
    rhs_contract = array<i64: 0>, dtype = f32} : (tensor<4x3xf32>, tensor<3x2xf32>) -> tensor<4x2xf32>
  %1 = "volta.tanh"(%0) : (tensor<4x2xf32>) -> tensor<4x2xf32>
  %2 = "volta.mul"(%1, %1) : (tensor<4x2xf32>, tensor<4x2xf32>) -> tensor<4x2xf32>
  %3 = "volta.reduce_sum"(%2) {axes = array<i64: 0, 1>} : (tensor<4x2xf32>) -> tensor<f32>
  return %3 : tensor<f32>
}

func.func private @loss.vjp(tensor<3x2xf32>, tensor<4x3xf32>, tensor<f32>) -> (tensor<f32>, tensor<3x2xf32>)
  attributes {volta.vjp = @loss, volta.wrt = array<i64: 0>}

func.func @step(%w: tensor<3x2xf32>, %x: tensor<4x3xf32>) -> (tensor<3x2xf32>, tensor<f32>) {
  %one = "volta.full"() {value = dense<1.0> : tensor<f32>, shape = array<i64>} : () -> tensor<f32>
  %loss, %gradient = call @loss.vjp(%w, %x, %one)
    : (tensor<3x2xf32>, tensor<4x3xf32>, tensor<f32>) -> (tensor<f32>, tensor<3x2xf32>)
  %rate = "volta.full"() {value = dense<0.1> : tensor<f32>, shape = array<i64: 3, 2>} : () -> tensor<3x2xf32>
  %delta = "volta.mul"(%gradient, %rate) : (tensor<3x2xf32>, tensor<3x2xf32>) -> tensor<3x2xf32>
  %new = "volta.sub"(%w, %delta) : (tensor<3x2xf32>, tensor<3x2xf32>) -> tensor<3x2xf32>
  return %new, %loss : tensor<3x2xf32>, tensor<f32>
}
