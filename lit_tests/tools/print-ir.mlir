// Modules printed around passes go to standard error.

// RUN: volta-opt %s --cse --canonicalize --print-ir-after-all 2>&1 >%t | filecheck %s --check-prefix=AFTER-ALL
// RUN: volta-opt %s --cse --canonicalize --print-ir-before-all 2>&1 >%t | filecheck %s --check-prefix=BEFORE-ALL
// RUN: volta-opt %s --cse --canonicalize --print-ir-after=cse 2>&1 >%t | filecheck %s --check-prefix=AFTER-CSE
// RUN: volta-opt %s --cse --canonicalize --print-ir-before=canonicalize 2>&1 >%t | filecheck %s --check-prefix=BEFORE-CANONICALIZE

// AFTER-ALL: // -----// IR Dump After cse //----- //
// AFTER-ALL-NEXT: module
// AFTER-ALL: // -----// IR Dump After canonicalize //----- //
// BEFORE-ALL: // -----// IR Dump Before cse //----- //
// BEFORE-ALL: // -----// IR Dump Before canonicalize //----- //
// AFTER-CSE: // -----// IR Dump After cse //----- //
// AFTER-CSE-NOT: IR Dump
// BEFORE-CANONICALIZE: // -----// IR Dump Before canonicalize //----- //
// BEFORE-CANONICALIZE-NOT: IR Dump

func.func @f() {
  return
}
