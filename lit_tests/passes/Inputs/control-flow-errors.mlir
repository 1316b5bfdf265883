func.func private @body(%c: tensor<f32>) -> tensor<f32> {
  return %c : tensor<f32>
}

// expected-error @below {{@loop needs volta.length}}
func.func private @loop(tensor<f32>) -> tensor<f32>
  attributes {volta.scan = @body, volta.consts = 0 : i64, volta.carry = 1 : i64, volta.reverse = false}

func.func @main(%x: tensor<f32>) -> tensor<f32> {
  %0 = func.call @loop(%x) : (tensor<f32>) -> tensor<f32>
  return %0 : tensor<f32>
}

// -----

// expected-error @below {{there is no function @body}}
func.func private @loop(tensor<f32>) -> tensor<f32>
  attributes {volta.scan = @body, volta.length = 2 : i64, volta.consts = 0 : i64, volta.carry = 1 : i64, volta.reverse = false}

func.func @main(%x: tensor<f32>) -> tensor<f32> {
  %0 = func.call @loop(%x) : (tensor<f32>) -> tensor<f32>
  return %0 : tensor<f32>
}

// -----

func.func private @more(%x: tensor<f32>) -> tensor<i1> {
  %0 = "volta.is_finite"(%x) : (tensor<f32>) -> tensor<i1>
  return %0 : tensor<i1>
}

func.func private @double(%x: tensor<f32>) -> tensor<f32> {
  %0 = "volta.add"(%x, %x) : (tensor<f32>, tensor<f32>) -> tensor<f32>
  return %0 : tensor<f32>
}

func.func private @loop(tensor<f32>) -> tensor<f32> attributes {volta.while = @double, volta.condition = @more, volta.consts = 0 : i64}

func.func private @f(%x: tensor<f32>) -> tensor<f32> {
  // expected-error @below {{while_loop can't be differentiated in reverse mode}}
  %0 = func.call @loop(%x) : (tensor<f32>) -> tensor<f32>
  return %0 : tensor<f32>
}

func.func private @f.vjp(tensor<f32>, tensor<f32>) -> (tensor<f32>, tensor<f32>)
  attributes {volta.vjp = @f, volta.wrt = array<i64: 0>}

func.func @main(%x: tensor<f32>) -> tensor<f32> {
  %0:2 = func.call @f.vjp(%x, %x) : (tensor<f32>, tensor<f32>) -> (tensor<f32>, tensor<f32>)
  return %0#1 : tensor<f32>
}

// -----

func.func private @primal(%x: tensor<f32>) -> tensor<f32> {
  return %x : tensor<f32>
}

func.func private @bwd(%ct: tensor<f32>) -> tensor<f32> {
  return %ct : tensor<f32>
}

func.func private @own(tensor<f32>) -> tensor<f32> attributes {volta.custom_vjp = @primal, volta.fwd = @primal, volta.bwd = @bwd}

func.func private @f(%x: tensor<f32>) -> tensor<f32> {
  // expected-error @below {{@own has a custom_vjp, which defines reverse mode only}}
  %0 = func.call @own(%x) : (tensor<f32>) -> tensor<f32>
  return %0 : tensor<f32>
}

func.func private @f.jvp(tensor<f32>, tensor<f32>) -> (tensor<f32>, tensor<f32>)
  attributes {volta.jvp = @f, volta.wrt = array<i64: 0>}

func.func @main(%x: tensor<f32>) -> tensor<f32> {
  %0:2 = func.call @f.jvp(%x, %x) : (tensor<f32>, tensor<f32>) -> (tensor<f32>, tensor<f32>)
  return %0#1 : tensor<f32>
}

// -----

func.func private @body(%c: tensor<f32>) -> tensor<f32> {
  return %c : tensor<f32>
}

// expected-error @below {{@loop needs volta.length = an integer, got "long"}}
func.func private @loop(tensor<f32>) -> tensor<f32>
  attributes {volta.scan = @body, volta.length = "long", volta.consts = 0 : i64, volta.carry = 1 : i64, volta.reverse = false}

func.func @main(%x: tensor<f32>) -> tensor<f32> {
  %0 = func.call @loop(%x) : (tensor<f32>) -> tensor<f32>
  return %0 : tensor<f32>
}

// -----

// expected-error @below {{@branch needs volta.switch = [@function, …]}}
func.func private @branch(tensor<i32>, tensor<f32>) -> tensor<f32> attributes {volta.switch = ["first"]}

func.func @main(%i: tensor<i32>, %x: tensor<f32>) -> tensor<f32> {
  %0 = func.call @branch(%i, %x) : (tensor<i32>, tensor<f32>) -> tensor<f32>
  return %0 : tensor<f32>
}

// -----

func.func private @body(%c: tensor<f32>) -> tensor<f32> {
  return %c : tensor<f32>
}

// expected-error @below {{@loop has 1 arguments and 1 results, which can't have 1 constants and 1 carries among them}}
func.func private @loop(tensor<f32>) -> tensor<f32>
  attributes {volta.scan = @body, volta.length = 2 : i64, volta.consts = 1 : i64, volta.carry = 1 : i64, volta.reverse = false}

func.func @main(%x: tensor<f32>) -> tensor<f32> {
  %0 = func.call @loop(%x) : (tensor<f32>) -> tensor<f32>
  return %0 : tensor<f32>
}

// -----

func.func private @body(%c: tensor<f32>, %x: tensor<f32>) -> tensor<f32> {
  return %c : tensor<f32>
}

// expected-error @below {{@loop takes (float32[], float32[3]) and returns (float32[]): carries have to stay as they are, the others to have a leading axis of 2}}
func.func private @loop(tensor<f32>, tensor<3xf32>) -> tensor<f32>
  attributes {volta.scan = @body, volta.length = 2 : i64, volta.consts = 0 : i64, volta.carry = 1 : i64, volta.reverse = false}

func.func @main(%c: tensor<f32>, %x: tensor<3xf32>) -> tensor<f32> {
  %0 = func.call @loop(%c, %x) : (tensor<f32>, tensor<3xf32>) -> tensor<f32>
  return %0 : tensor<f32>
}

// -----

func.func private @more(%x: tensor<f32>) -> tensor<f32> {
  return %x : tensor<f32>
}

// expected-error @below {{@loop needs @more to return (bool[]); it returns (float32[])}}
func.func private @loop(tensor<f32>) -> tensor<f32> attributes {volta.while = @more, volta.condition = @more, volta.consts = 0 : i64}

func.func @main(%x: tensor<f32>) -> tensor<f32> {
  %0 = func.call @loop(%x) : (tensor<f32>) -> tensor<f32>
  return %0 : tensor<f32>
}

// -----

func.func private @same(%x: tensor<f32>) -> tensor<f32> {
  return %x : tensor<f32>
}

// expected-error @below {{@branch needs an index of int32, its first argument}}
func.func private @branch(tensor<f32>) -> tensor<f32> attributes {volta.switch = [@same]}

func.func @main(%x: tensor<f32>) -> tensor<f32> {
  %0 = func.call @branch(%x) : (tensor<f32>) -> tensor<f32>
  return %0 : tensor<f32>
}

// -----

func.func private @f(%x: tensor<f32>) -> tensor<f32> {
  return %x : tensor<f32>
}

func.func private @fwd(%x: tensor<f32>) -> (tensor<f32>, tensor<f32>) {
  return %x, %x : tensor<f32>, tensor<f32>
}

// expected-error @below {{@custom needs @f to take (float32[], float32[]); it takes (float32[])}}
func.func private @custom(tensor<f32>) -> tensor<f32> attributes {volta.custom_vjp = @f, volta.fwd = @fwd, volta.bwd = @f}

func.func @main(%x: tensor<f32>) -> tensor<f32> {
  %0 = func.call @custom(%x) : (tensor<f32>) -> tensor<f32>
  return %0 : tensor<f32>
}

// -----

// expected-error @below {{@loop can't be derived from}}
func.func private @loop(tensor<?xf32>) -> tensor<?xf32> attributes {volta.checkpoint = @loop}

func.func @main(%x: tensor<?xf32>) -> tensor<?xf32> {
  %0 = func.call @loop(%x) : (tensor<?xf32>) -> tensor<?xf32>
  return %0 : tensor<?xf32>
}
