// Options reach a pass from a flag and from a pipeline; wrong ones are refused before anything runs.

// RUN: volta-opt %s --canonicalize="max-num-rewrites=0 region-simplify=disabled" | filecheck %s --check-prefix=KEPT
// RUN: volta-opt %s --pass-pipeline='builtin.module(cse,func.func(canonicalize{max-num-rewrites=0 region-simplify=disabled}))' | filecheck %s --check-prefix=KEPT
// RUN: volta-opt %s --canonicalize | filecheck %s --check-prefix=SIMPLIFIED
// RUN: not volta-opt %s --canonicalize=rounds=2 2>&1 | filecheck %s --check-prefix=UNKNOWN-OPTION
// RUN: not volta-opt %s --canonicalise 2>&1 | filecheck %s --check-prefix=UNKNOWN-PASS
// RUN: not volta-opt %s --cse --pass-pipeline='builtin.module(cse)' 2>&1 | filecheck %s --check-prefix=BOTH
// RUN: not volta-opt %s --pass-pipeline='builtin.module(cse' 2>&1 | filecheck %s --check-prefix=UNBALANCED
// RUN: not volta-opt %s --print-ir-after=cse 2>&1 | filecheck %s --check-prefix=ABSENT

// KEPT: cf.br
// SIMPLIFIED-NOT: cf.br
// UNKNOWN-OPTION: volta-opt: error: canonicalize: {{.*}}no such option rounds
// UNKNOWN-PASS: volta-opt: error: there is no pass 'canonicalise'; did you mean canonicalize?
// BOTH: volta-opt: error: --cse and --pass-pipeline exclude each other
// UNBALANCED: volta-opt: error: ')' is missing in the pipeline 'builtin.module(cse'
// ABSENT: volta-opt: error: cannot print around pass 'cse': it is not among those to run

func.func @main(%x: tensor<4xf32>) -> tensor<4xf32> {
  cf.br ^next(%x : tensor<4xf32>)
^next(%y: tensor<4xf32>):
  return %y : tensor<4xf32>
}
