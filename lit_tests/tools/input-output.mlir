// Files, standard input and standard output; the output is written only when everything succeeded.

// RUN: volta-opt < %s | filecheck %s
// RUN: volta-opt - < %s | filecheck %s
// RUN: volta-opt %s -o %t && filecheck %s < %t
// RUN: volta-opt %s --mlir-print-op-generic | filecheck %s --check-prefix=GENERIC
// RUN: volta-opt %s --mlir-print-debuginfo | filecheck %s --check-prefix=LOCATIONS
// RUN: volta-opt %s --allow-unregistered-dialect | filecheck %s
// RUN: rm -f %t && not volta-opt %s --canonicalise -o %t
// RUN: not cat %t
// RUN: not volta-opt %s.missing 2>&1 | filecheck %s --check-prefix=MISSING
// RUN: not volta-opt %s -o %S/no/such/directory 2>&1 | filecheck %s --check-prefix=UNWRITABLE

// CHECK: func.func @f(%[[X:.*]]: tensor<4xf32>)
// CHECK-NEXT: return %[[X]]
// GENERIC: "func.return"(%arg0) : (tensor<4xf32>) -> ()
// LOCATIONS: return %arg0 : tensor<4xf32> loc(#[[LOC:.*]])
// LOCATIONS: #[[LOC]] = loc("model.py":7:0)
// MISSING: volta-opt: error: {{.*}}input-output.mlir.missing: No such file or directory
// UNWRITABLE: volta-opt: error: {{.*}}no/such/directory: No such file or directory

func.func @f(%x: tensor<4xf32>) -> tensor<4xf32> {
  return %x : tensor<4xf32> loc("model.py":7:0)
}
