// Registers an operator whose checks, outputs and kernel parameters are one function `make` for CPU and CUDA alike, and
// whose kernel starts in `launch`. The arguments of an operator are listed in schemas.cpp and by its make function.
#pragma once

#include "csrc/ops/boxed.h"

namespace jenga::ops {

template <auto make, auto launch>
struct Operator;

// make returns what keeps the tensors alive, holds the parameters and names the outputs.
template <class Call, class... Arguments, Call (*make)(Arguments...), void (*launch)(const Call&)>
struct Operator<make, launch> {
  static auto run(Arguments... arguments) {
    const Call call = make(arguments...);
    launch(call);
    return call.outputs();
  }
};

template <auto make, auto launch, class Library>
void implement(Library& library, const char* name) {
  library.impl(name, JENGA_BOX((&Operator<make, launch>::run)));
}

}  // namespace jenga::ops
