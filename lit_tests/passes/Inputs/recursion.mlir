// expected-error @below {{recursion can't be compiled: @f -> @f}}
func.func private @f(%x: tensor<f32>) -> tensor<f32> {
  %0 = func.call @f(%x) : (tensor<f32>) -> tensor<f32>
  return %0 : tensor<f32>
}

func.func @main(%x: tensor<f32>) -> tensor<f32> {
  %0 = func.call @f(%x) : (tensor<f32>) -> tensor<f32>
  return %0 : tensor<f32>
}

// -----

func.func private @f(%x: tensor<f32>) -> tensor<f32> {
  %0 = func.call @loop(%x) : (tensor<f32>) -> tensor<f32>
  return %0 : tensor<f32>
}

// expected-error @below {{recursion can't be compiled: @loop -> @f -> @loop}}
func.func private @loop(tensor<f32>) -> tensor<f32>
  attributes {volta.scan = @f, volta.consts = 0 : i64, volta.carry = 1 : i64, volta.length = 3 : i64, volta.reverse = false}

func.func @main(%x: tensor<f32>) -> tensor<f32> {
  %0 = func.call @loop(%x) : (tensor<f32>) -> tensor<f32>
  return %0 : tensor<f32>
}

// -----

func.func private @external(tensor<f32>) -> tensor<f32>

func.func @main(%x: tensor<f32>) -> tensor<f32> {
  // expected-error @below {{@external has no body}}
  %0 = func.call @external(%x) : (tensor<f32>) -> tensor<f32>
  return %0 : tensor<f32>
}

// -----

// expected-error @below {{branches between blocks can't be transformed or lowered}}
func.func private @branching(%x: tensor<f32>) -> tensor<f32> {
  cf.br ^next(%x : tensor<f32>)
^next(%y: tensor<f32>):
  return %y : tensor<f32>
}

func.func @main(%x: tensor<f32>) -> tensor<f32> {
  %0 = func.call @branching(%x) : (tensor<f32>) -> tensor<f32>
  return %0 : tensor<f32>
}
