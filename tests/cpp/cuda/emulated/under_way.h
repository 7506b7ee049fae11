// What threads have asked for that is not done yet, in groups that are committed: it is done when a thread waits for it
// and not before.
#pragma once

#include <deque>

#include "tests/cpp/cuda/emulated/block.h"

namespace jenga::emulated {

class UnderWay {
 public:
  void add(std::function<void()> work) { mine().back().push_back(std::move(work)); }
  void commit() { mine().emplace_back(); }
  // Does all of this thread's committed groups but the last `pending`.
  void finish_but(size_t pending) {
    for (auto& groups = mine(); groups.size() > pending + 1; groups.pop_front())
      for (const auto& work : groups.front()) work();
  }

 private:
  using Groups = std::deque<std::vector<std::function<void()>>>;  // the last one is open

  Groups& mine() {
    Groups& groups = of_threads_[thread_index.x];
    if (groups.empty()) groups.emplace_back();
    return groups;
  }

  Groups of_threads_[1024];
};

}  // namespace jenga::emulated
