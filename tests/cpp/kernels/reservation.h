// Address space that is reserved and takes memory only where it is touched.
#pragma once

#include <cstddef>

#ifdef _WIN32
#else
#include <sys/mman.h>
#endif

namespace jenga::test {

class Reservation {
 public:
  Reservation() = default;
  Reservation(const Reservation&) = delete;
  Reservation& operator=(const Reservation&) = delete;
#ifdef _WIN32
  // Windows counts what is committed, touched or not: there is no such memory, and the test says that it is skipped.
  bool reserve(size_t) { return false; }
#else
  ~Reservation() {
    if (data_) munmap(data_, bytes_);
  }
  bool reserve(size_t bytes) {
    void* const data = mmap(nullptr, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (data == MAP_FAILED) return false;
    data_ = data;
    bytes_ = bytes;
    return true;
  }
#endif
  void* data() const { return data_; }

 private:
  void* data_ = nullptr;
  [[maybe_unused]] size_t bytes_ = 0;
};

}  // namespace jenga::test
