// Attention is lowered block by block; in reverse mode it keeps the log-sum-exp and nothing larger.

// RUN: volta-opt %s --split-input-file --verify-diagnostics --volta-inline --convert-volta-to-linalg | filecheck %s
// RUN: volta-opt %s --split-input-file --verify-diagnostics --volta-inline | filecheck %s --check-prefix=INLINE

// Up to one block it is the plain computation. Query heads of a group are rows of one product.
// CHECK-LABEL: func.func @groups
// CHECK: linalg.generic {{.*}} ins(%{{.*}}, %{{.*}} : tensor<6x20x8xf32>, tensor<6x7x8xf32>) outs(%{{.*}} : tensor<6x20x7xf32>)
// CHECK: math.exp
// CHECK: linalg.generic {{.*}} ins(%{{.*}}, %{{.*}} : tensor<6x20x7xf32>, tensor<6x7x8xf32>) outs(%{{.*}} : tensor<6x20x8xf32>)
// CHECK: math.log
// CHECK: return %{{.*}}, %{{.*}} : tensor<2x3x4x5x8xf32>, tensor<2x3x4x5xf32>
func.func @groups(%q: tensor<2x3x4x5x8xf32>, %k: tensor<2x3x7x8xf32>, %v: tensor<2x3x7x8xf32>) -> (tensor<2x3x4x5x8xf32>, tensor<2x3x4x5xf32>) {
  %0:2 = "volta.attention"(%q, %k, %v) {scale = 0.5 : f64, causal = false} : (tensor<2x3x4x5x8xf32>, tensor<2x3x7x8xf32>, tensor<2x3x7x8xf32>) -> (tensor<2x3x4x5x8xf32>, tensor<2x3x4x5xf32>)
  return %0#0, %0#1 : tensor<2x3x4x5x8xf32>, tensor<2x3x4x5xf32>
}

// -----

// What has a kernel for the CPU is a function of its own, which says what it computes. There, a causal block meets the
// keys up to its last query, and its queries wait for the block before it.
// CHECK-LABEL: func.func @blocks
// CHECK: call @attention.[[NAME:[0-9a-f]*]](
// CHECK-LABEL: func.func private @attention.
// CHECK-SAME: volta.kernel = {causal = true, op = "attention", scale = 5.000000e-01 : f64}
// CHECK: -> tensor<512x512xf32>
// CHECK-NOT: 1024x1024
// CHECK: math.absf
// CHECK: arith.select
// CHECK: -> tensor<512x1024xf32>
// CHECK: return
func.func @blocks(%q: tensor<1x1x1x1024x8xf32>, %k: tensor<1x1x1024x8xf32>, %v: tensor<1x1x1024x8xf32>) -> (tensor<1x1x1x1024x8xf32>, tensor<1x1x1x1024xf32>) {
  %0:2 = "volta.attention"(%q, %k, %v) {scale = 0.5 : f64, causal = true} : (tensor<1x1x1x1024x8xf32>, tensor<1x1x1024x8xf32>, tensor<1x1x1024x8xf32>) -> (tensor<1x1x1x1024x8xf32>, tensor<1x1x1x1024xf32>)
  return %0#0, %0#1 : tensor<1x1x1x1024x8xf32>, tensor<1x1x1x1024xf32>
}

// -----

// Half precision: scores are float32.
// CHECK-LABEL: func.func @masked
// CHECK: -> tensor<2x4x5xf32>
// CHECK: arith.select %{{.*}} : f32
// CHECK: math.exp %{{.*}} : f32
func.func @masked(%q: tensor<2x1x1x4x8xbf16>, %k: tensor<2x1x5x8xbf16>, %v: tensor<2x1x5x8xbf16>, %m: tensor<1x1x1x4x5xi1>) -> tensor<2x1x1x4x8xbf16> {
  %0:2 = "volta.masked_attention"(%q, %k, %v, %m) {scale = 0.5 : f64} : (tensor<2x1x1x4x8xbf16>, tensor<2x1x5x8xbf16>, tensor<2x1x5x8xbf16>, tensor<1x1x1x4x5xi1>) -> (tensor<2x1x1x4x8xbf16>, tensor<2x1x1x4xf32>)
  return %0#0 : tensor<2x1x1x4x8xbf16>
}

// -----

// Reverse mode is an op of its own, which takes the log-sum-exp; and another one for a mask of numbers.
// INLINE-LABEL: func.func @reverse
// INLINE: %0:2 = "volta.masked_attention"(%arg0, %arg1, %arg2, %arg3)
// INLINE-NOT: volta.exp
// INLINE: "volta.masked_attention_grad"(%arg0, %arg1, %arg2, %arg3, %0#1, %{{.*}}, %{{.*}})
// INLINE: "volta.attention_mask_grad"(%arg0, %arg1, %arg2, %arg3, %0#1, %{{.*}}, %{{.*}})
func.func private @f(%q: tensor<1x1x1x4x2xf32>, %k: tensor<1x1x5x2xf32>, %v: tensor<1x1x5x2xf32>, %m: tensor<1x1x1x4x5xf32>) -> tensor<1x1x1x4x2xf32> {
  %0:2 = "volta.masked_attention"(%q, %k, %v, %m) {scale = 0.5 : f64} : (tensor<1x1x1x4x2xf32>, tensor<1x1x5x2xf32>, tensor<1x1x5x2xf32>, tensor<1x1x1x4x5xf32>) -> (tensor<1x1x1x4x2xf32>, tensor<1x1x1x4xf32>)
  return %0#0 : tensor<1x1x1x4x2xf32>
}
func.func private @f.vjp(tensor<1x1x1x4x2xf32>, tensor<1x1x5x2xf32>, tensor<1x1x5x2xf32>, tensor<1x1x1x4x5xf32>, tensor<1x1x1x4x2xf32>) -> (tensor<1x1x1x4x2xf32>, tensor<1x1x1x4x2xf32>, tensor<1x1x1x4x5xf32>) attributes {volta.vjp = @f, volta.wrt = array<i64: 0, 3>}
func.func @reverse(%q: tensor<1x1x1x4x2xf32>, %k: tensor<1x1x5x2xf32>, %v: tensor<1x1x5x2xf32>, %m: tensor<1x1x1x4x5xf32>, %ct: tensor<1x1x1x4x2xf32>) -> (tensor<1x1x1x4x2xf32>, tensor<1x1x1x4x5xf32>) {
  %0:3 = call @f.vjp(%q, %k, %v, %m, %ct) : (tensor<1x1x1x4x2xf32>, tensor<1x1x5x2xf32>, tensor<1x1x5x2xf32>, tensor<1x1x1x4x5xf32>, tensor<1x1x1x4x2xf32>) -> (tensor<1x1x1x4x2xf32>, tensor<1x1x1x4x2xf32>, tensor<1x1x1x4x5xf32>)
  return %0#1, %0#2 : tensor<1x1x1x4x2xf32>, tensor<1x1x1x4x5xf32>
}

// -----

// Forward mode differentiates the expansion.
// INLINE-LABEL: func.func @forward
// INLINE: "volta.attention"(
// INLINE: volta.exp
// INLINE-NOT: volta.attention_grad
// INLINE: return
func.func private @g(%q: tensor<1x1x1x4x2xf32>, %k: tensor<1x1x5x2xf32>) -> tensor<1x1x1x4x2xf32> {
  %0:2 = "volta.attention"(%q, %k, %k) {scale = 0.5 : f64, causal = true} : (tensor<1x1x1x4x2xf32>, tensor<1x1x5x2xf32>, tensor<1x1x5x2xf32>) -> (tensor<1x1x1x4x2xf32>, tensor<1x1x1x4xf32>)
  return %0#0 : tensor<1x1x1x4x2xf32>
}
func.func private @g.jvp(tensor<1x1x1x4x2xf32>, tensor<1x1x5x2xf32>, tensor<1x1x1x4x2xf32>) -> (tensor<1x1x1x4x2xf32>, tensor<1x1x1x4x2xf32>) attributes {volta.jvp = @g, volta.wrt = array<i64: 0>}
func.func @forward(%q: tensor<1x1x1x4x2xf32>, %k: tensor<1x1x5x2xf32>, %t: tensor<1x1x1x4x2xf32>) -> (tensor<1x1x1x4x2xf32>, tensor<1x1x1x4x2xf32>) {
  %0:2 = call @g.jvp(%q, %k, %t) : (tensor<1x1x1x4x2xf32>, tensor<1x1x5x2xf32>, tensor<1x1x1x4x2xf32>) -> (tensor<1x1x1x4x2xf32>, tensor<1x1x1x4x2xf32>)
  return %0#0, %0#1 : tensor<1x1x1x4x2xf32>, tensor<1x1x1x4x2xf32>
}

// -----

// Gradients, of grouped queries in half precision.
// CHECK-LABEL: func.func @gradients
// CHECK: return %{{.*}}, %{{.*}}, %{{.*}} : tensor<1x1x2x4x2xf16>, tensor<1x1x5x2xf16>, tensor<1x1x5x3xf16>
func.func @gradients(%q: tensor<1x1x2x4x2xf16>, %k: tensor<1x1x5x2xf16>, %v: tensor<1x1x5x3xf16>, %lse: tensor<1x1x2x4xf32>, %delta: tensor<1x1x2x4xf32>, %dout: tensor<1x1x2x4x3xf16>) -> (tensor<1x1x2x4x2xf16>, tensor<1x1x5x2xf16>, tensor<1x1x5x3xf16>) {
  %0:3 = "volta.attention_grad"(%q, %k, %v, %lse, %delta, %dout) {scale = 0.5 : f64, causal = true} : (tensor<1x1x2x4x2xf16>, tensor<1x1x5x2xf16>, tensor<1x1x5x3xf16>, tensor<1x1x2x4xf32>, tensor<1x1x2x4xf32>, tensor<1x1x2x4x3xf16>) -> (tensor<1x1x2x4x2xf16>, tensor<1x1x5x2xf16>, tensor<1x1x5x3xf16>)
  return %0#0, %0#1, %0#2 : tensor<1x1x2x4x2xf16>, tensor<1x1x5x2xf16>, tensor<1x1x5x3xf16>
}

// -----

func.func @refused(%q: tensor<1x1x1x4x2xf32>, %k: tensor<1x1x5x3xf32>) -> tensor<1x1x1x4x3xf32> {
  // expected-error @+1 {{the widths of queries}}
  %0:2 = "volta.attention"(%q, %k, %k) {scale = 0.5 : f64, causal = true} : (tensor<1x1x1x4x2xf32>, tensor<1x1x5x3xf32>, tensor<1x1x5x3xf32>) -> (tensor<1x1x1x4x3xf32>, tensor<1x1x1x4xf32>)
  return %0#0 : tensor<1x1x1x4x3xf32>
}
