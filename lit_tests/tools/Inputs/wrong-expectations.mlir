// CHECK: wrong-expectations.mlir:[[# @LINE + 4]]: error: expected error "some other message" was not reported
// CHECK-NEXT: wrong-expectations.mlir:[[# @LINE + 4]]:3: error: unexpected error: 'func.return' op has 0 operands

func.func @wrong_text() -> i32 {
  // expected-error @below {{some other message}}
  return
}

// -----

// CHECK-NEXT: wrong-expectations.mlir:[[# @LINE + 2]]: error: expected warning "of which there is none" was not reported
func.func @nothing_wrong() {
  // expected-warning @below {{of which there is none}}
  return
}
